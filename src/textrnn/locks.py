"""A lock between processes that the kernel frees when its holder dies, however it dies."""

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from textrnn.errors import disk_errors

_log = logging.getLogger("textrnn")


class FileLock:
    """An exclusive `flock` on `path`; the file exists while somebody holds or awaits the lock.

    Raises:
        OSError: the file cannot be made or locked, for instance on a read-only disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock; without `blocking`, False at once if another process holds it."""
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # another process removed the empty folder after our mkdir
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            if self._names(descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # the last holder removed this file while we waited for it: wait for the new one

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether some process holds the lock now."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask don't see each other
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _names(self, descriptor: int) -> bool:
        """Whether `path` is still the name of the open file."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def remove_if_abandoned(directory: Path, lock: Path) -> None:
    """Delete what a killed process left, unless the process that `lock` stands for is alive."""
    guard = FileLock(lock)
    if guard.acquire(blocking=False):
        try:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            guard.release()


@contextlib.contextmanager
def making(path: Path, what: str) -> Iterator[None]:
    """Be the only process that makes the folder `path`, after clearing away what killed processes left.

    Drafts lie beside it as `.tmp-NAME-...`, the lock as `NAME.lock`.

    Args:
        path: The folder; the one above it exists, or is made.
        what: What another process does that is waited for, for the log.

    Raises:
        InputError: the disk refuses.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with disk_errors(path.parent):
        if not lock.acquire(blocking=False):
            _log.info(f"waiting for another process that {what} {path}")
            lock.acquire()
    try:
        for draft in path.parent.glob(".tmp-*"):
            maker = draft.name.split("-")[1]
            if maker == path.name:
                shutil.rmtree(draft, ignore_errors=True)
            else:
                remove_if_abandoned(draft, draft.with_name(f"{maker}.lock"))
        yield
    finally:
        lock.release()
