"""The one exception that means "what was typed is wrong"."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class InputError(Exception):
    """Wrong input, told in one sentence: what is wrong, where, and what to type instead.

    The entry scripts print it to stderr without a traceback and exit with code 2.
    """


class RefusedElsewhere(InputError):
    """Another rank has refused the input, and says so."""


class RankLost(Exception):
    """Another rank of the run has ended."""


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn a disk that is full, read-only or over its quota into an `InputError` that names `data.cache_dir`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"data.cache_dir: cannot write to {directory} ({error.strerror or error}); make room there, "
            "or type data.cache_dir=FOLDER with a folder on another disk"
        ) from error
