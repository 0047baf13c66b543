"""Files that survive a kill: locks, whole files and folders, paths as people type them, the cache, disk errors."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError

if TYPE_CHECKING:
    pass  # which itself writes its file through this module


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
            LOGGER.info(f"waiting for another process that {what} {path}")
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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever opens `path`, at any moment, finds the old content or the new, whole."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; afterwards the file is on disk and takes the place of `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


TEMPORARY_SUFFIX = ".tmp"


def _make_directories(path: Path, made: list[Path]) -> None:
    """Make `path` and its missing parents; append those that this call made to `made`, outermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:  # another run made it in the meantime
            continue
        made.append(folder)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _remove_directories(made: list[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # no longer empty: somebody else uses it
            folder.rmdir()
