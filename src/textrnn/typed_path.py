"""Paths as people type them: what the system can't look up is wrong input."""

from pathlib import Path

from textrnn.errors import InputError

_SHOWN = 100
"""Characters of what was typed that a message shows: a path may be a text that was put in its place."""


def typed_path(name: str | Path, typed: str) -> Path:
    """The path that `name` means, `~` and `~user` expanded; whether there is such a file or folder is left open.

    Args:
        name: What was typed for a path.
        typed: It and its key, for the message, such as "data.path=reviews".

    Raises:
        InputError: there is no such home directory, or the system refuses to look (a name that is too long, a folder
            that this user may not enter), where `Path.exists` and its like raise an error.
    """
    shown = typed if len(typed) <= _SHOWN else f"{typed[:_SHOWN]}..."
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(f"{shown}: there is no such home directory; type a path.") from error
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # ValueError: a null byte, which a file of settings may hold
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{shown}: no path that can be looked up ({reason}); type another one.") from error
    return path
