"""The Hugging Face Hub's client, silenced, and its errors."""

import logging


def silence_hub_client() -> None:
    """Silence the client's messages and progress bars: its errors are caught and reported in one sentence."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()


def network_errors() -> tuple[type[Exception], ...]:
    """Return the Hub client's exceptions for a failing network or server; ValueError: an answer can't be parsed."""
    # The client's name for its HTTP library, httpx or httpx2 depending on its version.
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
