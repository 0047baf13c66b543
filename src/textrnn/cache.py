"""Where what can be made again is kept: token stores, compiled code, vectors."""

import os
from pathlib import Path

from textrnn.errors import InputError


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/textrnn`, else `~/.cache/textrnn`.

    Raises:
        InputError: neither says where that is, as for a container's user without a home.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache").absolute() / "textrnn"
    except RuntimeError as error:
        raise InputError("there is no home directory to keep a cache in; set XDG_CACHE_HOME=FOLDER.") from error
