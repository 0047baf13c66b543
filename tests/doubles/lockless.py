"""A disk without working file locks, and machines of other names, for processes that a test starts."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def failing(descriptor: int, operation: int) -> None:
    """`flock` of Lustre mounted with `noflock`: "applications calling flock will get an error" (mount.lustre(8))."""
    del descriptor, operation
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def pretending(descriptor: int, operation: int) -> None:
    """`flock` of a mount that grants every lock."""
    del descriptor, operation


FLOCKS: dict[str, Callable[[int, int], None]] = {"failing": failing, "pretending": pretending, "works": fcntl.flock}

IN_PROCESSES = """
import errno, fcntl, os
here = os.uname()
os.uname = lambda: os.uname_result((here[0], os.environ["MACHINE"], *here[2:]))
def flock(descriptor, operation):
    if os.environ["FLOCK"] == "failing":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
"""
"""A module that Python imports at its start."""


def lockless(folder: Path, flock: str, machine: str) -> dict[str, str]:
    """Return the environment of a process whose `flock` is one of `FLOCKS`, on a machine of this name."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(IN_PROCESSES)
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": path, "FLOCK": flock, "MACHINE": machine}
