"""Files that survive a kill: whole files and folders, CSV; typed paths, the cache, disk errors."""

import atexit
import contextlib
import csv
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock

_SHOWN = 100
"""Characters of a typed path that a message shows: a whole text may have been typed by mistake."""


def typed_path(name: str | Path, typed: str) -> Path:
    """Return `name` as a path, with `~` and `~user` expanded; it need not exist.

    Args:
        name: What was typed for a path.
        typed: It and its key, for the message, such as "data.path=reviews".

    Raises:
        InputError: there is no such home directory, or the path can't be looked up: a name that is too long, a folder
            that this user may not enter.
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
        raise InputError(f"{shown}: not a valid path ({reason}); type another one.") from error
    return path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/textrnn`, else `~/.cache/textrnn`.

    Raises:
        InputError: there is no home directory, as for some users of containers.
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


TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader of `path` finds the whole old content or the whole new one."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, lineterminator: str = "\r\n"
) -> None:
    """Write a CSV file atomically; lines end as in RFC 4180 unless `lineterminator` is given."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator=lineterminator)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, text.getvalue())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; afterwards sync that file and rename it to `path`.

    On failure the file is removed; a killed process leaves `.NAME.<random>.tmp`.
    """
    temporary = path.with_name(f".{path.name}.{_random_name()}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A write names no file, where an open does.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing_folder(
    path: Path, *, errors: Callable[[Path], AbstractContextManager[object]] = disk_errors
) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; afterwards sync it and rename it to `path`.

    On failure the folder is removed. Use this inside `making(path)`, which also removes what killed processes left.
    """
    draft = path.with_name(f".tmp-{path.name}-{_random_name()}")
    try:
        with errors(path.parent):
            draft.mkdir()
        yield draft
        with errors(path.parent):
            for entry in (*draft.rglob("*"), draft):
                _sync(entry)
            if path.exists():  # damaged; a process that reads it keeps its open files
                shutil.rmtree(path)
            draft.rename(path)
            _sync(path.parent)  # so that the new name outlives a power cut
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextlib.contextmanager
def making(
    path: Path, what: str, *, errors: Callable[[Path], AbstractContextManager[object]] = disk_errors
) -> Iterator[None]:
    """Hold the lock on making the folder `path`, which the caller does with `replacing_folder`.

    Folders left by killed processes are removed first; on failure, so are the parents that were made for `path`. The
    lock is `NAME.lock` beside `path`.

    Args:
        path: The folder; missing parents are made.
        what: What another process does while this one waits, for the log.
        errors: Turns the disk's errors into an `InputError`; `contextlib.nullcontext` leaves them as they are.

    Raises:
        InputError: the disk refuses.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with errors(path.parent):
        made = make_folders(path.parent)
    try:
        with errors(path.parent):
            if not lock.acquire(blocking=False):
                LOGGER.info(f"waiting for another process that {what} {path}")
                lock.acquire()
        try:
            for draft in path.parent.glob(".tmp-*"):
                maker = draft.name.removeprefix(".tmp-").rpartition("-")[0]
                if maker == path.name:
                    shutil.rmtree(draft, ignore_errors=True)
                else:
                    remove_if_abandoned(draft, draft.with_name(f"{maker}.lock"))
            yield
        finally:
            lock.release()
    except BaseException:
        remove_folders(made)
        raise


def remove_if_abandoned(folder: Path, lock: Path) -> None:
    """Delete the folder of a killed process, unless a process holds `lock`."""
    guard = FileLock(lock)
    if not guard.is_held() and guard.acquire(blocking=False):
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            guard.release()


def make_folders(path: Path) -> list[Path]:
    """Make `path` and its missing parents; return those that this call made, the outermost first.

    Raises:
        OSError: one can't be made, or `path` is no folder; then none is left.
    """
    made: list[Path] = []
    try:
        for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            with contextlib.suppress(FileExistsError):  # another process made it in the meantime
                folder.mkdir()
                made.append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    except OSError:
        remove_folders(made)
        raise
    return made


def remove_folders(made: Sequence[Path]) -> None:
    """Remove the folders that `make_folders` returned, those that are empty."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # not empty: another process uses it
            folder.rmdir()


def _random_name() -> str:
    """Return 8 hexadecimal digits; a pid isn't unique on a disk that machines or containers share."""
    return os.urandom(4).hex()


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable_cache(library: str) -> str:
    """A library's folder in the user's caches or, without a home that can be written, one until this process's end."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), library)  # noqa: PTH111
    if folder.is_absolute():  # "~" stays where there is no home, and Path's method fails
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return str(folder)
    made = tempfile.mkdtemp(prefix=f"{library}-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
