"""What the Hub's client raises, told in a few words."""


def network_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises when the network or the server fails; ValueError: it sent what can't be parsed."""
    # The name by which the client passes on its HTTP library, which is httpx or httpx2 with its version.
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL)


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
