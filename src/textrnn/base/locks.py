"""Locks between processes: the kernel's or, on a disk where those don't work, files with a heartbeat."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from textrnn.base.console import LOGGER
from textrnn.base.exits import CRASH

BEAT = 5.0
"""Seconds after which the holder of a lock touches its file again."""
STALE = 180.0
"""Seconds without a touch after which a holder on another machine has died. NFS may show a touch a minute late."""
DECIDED = 1.0
"""Seconds after which a process that asks for a lock has it or has removed its file."""


class FileLock:
    """An exclusive lock on `path`, which ends with its process, however that ends.

    It is an `flock`, which the kernel releases. On a disk without working `flock`, each holder has a file beside `path`
    instead; see `_Claim`. A process that was killed on another machine then holds the lock for three more minutes.

    A child process that inherits `descriptor` (`subprocess.Popen(pass_fds=...)`) and is named to `share` holds the lock
    too, until it ends, even after `release` here; such a lock needs `keep`.

    Args:
        path: The lock's file; its folder is made.
        keep: Leave the file in place on release. Otherwise it exists only while a process holds or awaits the lock.

    Attributes:
        descriptor: Of the open file; None while this object does not hold the lock.

    Raises:
        OSError: the file cannot be made or locked, for instance on a read-only disk.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        self.descriptor: int | None = None
        self._keep = keep
        self._claim: _Claim | None = None

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock; without `blocking`, return False if another process holds it: at once where `flock` works."""
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = None
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
                if not self._take(descriptor, blocking=blocking):
                    os.close(descriptor)
                    return False
            except BaseException as error:
                if descriptor is not None:
                    os.close(descriptor)
                if isinstance(error, FileNotFoundError):
                    continue  # another process removed the empty folder after our mkdir
                raise
            if self._names(descriptor):
                self.descriptor = descriptor
                return True
            self._drop(descriptor)  # the last holder removed this file while we waited for it: wait for the new one

    def share(self, pid: int) -> None:
        """Let a child, which has inherited `descriptor`, hold the lock until it ends."""
        if self._claim is not None:
            self._claim.share(pid)

    def release(self) -> None:
        """Release the lock and, without `keep`, remove its file; a second call does nothing."""
        if self.descriptor is not None:
            if not self._keep:
                self.path.unlink(missing_ok=True)
            self._drop(self.descriptor)
            self.descriptor = None

    def is_held(self) -> bool:
        """Return whether any process holds the lock now."""
        descriptor = None
        is_ours = os.access(self.path, os.W_OK)  # in another user's folder the kernel alone is asked
        try:
            descriptor = os.open(self.path, os.O_RDWR if is_ours else os.O_RDONLY)
            if is_ours and not _kernel_locks(self.path, descriptor):
                return any(claim.lives for claim in _claims(self.path))
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two callers don't see each other
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return False

    def _take(self, descriptor: int, *, blocking: bool) -> bool:
        if not _kernel_locks(self.path, descriptor):
            claim = _Claim(self.path)
            self._claim = claim if claim.acquire(blocking=blocking) else None
            return self._claim is not None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _drop(self, descriptor: int) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None
        os.close(descriptor)

    def _names(self, descriptor: int) -> bool:
        """Return whether `path` is still the name of the open file."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except OSError:  # it is gone: ESTALE on NFS
            return False

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""Errors of `flock` on a disk that has no locks."""
_PROBED: dict[int, bool] = {}
"""Whether kernel locks work, by disk."""


def _kernel_locks(path: Path, descriptor: int) -> bool:
    """Return whether `flock` excludes other processes, those of other machines too; probe once for each disk.

    Args:
        path: A lock's file.
        descriptor: Of that file; a probe may leave it locked.

    Raises:
        FileNotFoundError: the file has been removed.
    """
    disk = os.fstat(descriptor).st_dev
    if disk not in _PROBED:
        reason = _fault(path, descriptor, disk)
        _PROBED[disk] = reason is None
        if reason is not None:
            LOGGER.info(f"{path.parent.absolute()}: file locks don't work on this disk ({reason}); files replace them")
    return _PROBED[disk]


def _fault(path: Path, descriptor: int, disk: int) -> str | None:
    """Return what is wrong with the kernel locks of a disk, or None."""
    if (option := _local_locks(disk)) is not None:
        return f"{option}: locks hold on one machine only"
    other = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return error.strerror
    finally:
        os.close(other)
    return "two processes get the same lock"


def _local_locks(disk: int) -> str | None:
    """Return the option, or type, of a mounted disk by which its locks don't hold between machines.

    Lustre's `localflock`: mount.lustre(8). NFS: `nfs_show_mount_options` in Linux's fs/nfs/super.c. BeeGFS has local
    locks unless its client's configuration sets `tuneUseGlobalFileLocks`, which is not shown.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None  # not Linux
    number = f"{os.major(disk)}:{os.minor(disk)}"
    for line in mounts:
        mount, _, system = line.partition(" - ")
        if mount.split()[2] == number:
            found = {system.split()[0], *mount.split()[5].split(","), *system.split()[-1].split(",")}
            return min(found & {"localflock", "local_lock=all", "local_lock=flock", "beegfs"}, default=None)
    return None


class _Claim:
    """A file that holds a lock, or asks for it, where kernel locks don't work.

    It is PATH.MACHINE.PID-START-RANDOM. A process makes its own, then looks for others: of two, the one that has made
    its file later sees the other's, so there are never two holders. One that isn't alone removes its file and waits.

    A file counts while its process lives: on this machine, by its pid and start; on another, while it is touched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Path | None = None
        self._ended = threading.Event()

    def acquire(self, *, blocking: bool) -> bool:
        """Take the lock; without `blocking`, return False if the process that holds it is known to live.

        That takes a second or, of a process on another machine, until it touches its file or has died.
        """
        first: dict[Path, tuple[float, float]] = {}
        began, said = time.monotonic(), False
        try:
            while not self._try():
                now = time.monotonic()
                for other in _claims(self._path):
                    since, touched = first.setdefault(other.file, (now, other.touched))
                    is_sure = other.is_here or other.touched != touched
                    if not blocking and other.lives and is_sure and now - since > DECIDED:
                        return False
                    if not blocking and not is_sure and not said and now - began > 2 * BEAT:
                        said = True
                        LOGGER.info(f"{other.file}: waiting up to {STALE / 60:.0f} min for its process to touch it")
                time.sleep(random.uniform(0.05, 0.5))
        except BaseException:
            self.release()
            raise
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def share(self, pid: int) -> None:
        """Make the file of a child, which doesn't touch it."""
        _make(self._path, pid)

    def release(self) -> None:
        """Remove the file."""
        self._ended.set()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None

    def _try(self) -> bool:
        """Hold the lock if nobody else does or asks for it; then remove the files of the dead."""
        if any(other.lives for other in _claims(self._path)):
            return False
        self._file = _make(self._path, os.getpid())
        others = [other for other in _claims(self._path) if other.file != self._file]
        if any(other.lives for other in others):
            self._file.unlink(missing_ok=True)
            self._file = None
            return False
        for other in others:
            other.file.unlink(missing_ok=True)
        return True

    def _beat(self) -> None:
        file = self._file
        while file is not None and not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that doesn't answer may do so at the next touch
                try:
                    os.utime(file)
                except FileNotFoundError:
                    if any(_files(self._path)) and not self._ended.is_set():
                        LOGGER.error(f"error: {self._path} was taken by another process while this one stood still")
                        os._exit(CRASH)  # both would write the same files


@dataclass(frozen=True, slots=True)
class _Seen:
    """A claim as other processes see it."""

    file: Path
    is_here: bool
    """Whether its process is of this machine."""
    touched: float
    lives: bool


_OWNER = re.compile(r"\.(?P<machine>.+-[0-9a-f]{8})\.(?P<pid>\d+)-(?P<start>\w*)-[0-9a-f]{8}")
"""What follows the lock's name in that of a claim."""


def _claims(path: Path) -> list[_Seen]:
    """Return the claims on a lock."""
    os.utime(path)
    now = path.stat().st_mtime  # by the clock of the disk, as `touched`
    claims = []
    for file, owner in _files(path):
        is_here = owner["machine"] == _machine()
        with contextlib.suppress(FileNotFoundError):
            touched = _touched(file)
            lives = _lives(int(owner["pid"]), owner["start"]) if is_here else now - touched < STALE
            claims.append(_Seen(file, is_here, touched, lives))
    return claims


def _files(path: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield the files of claims on a lock."""
    for file in path.parent.iterdir():
        if file.name.startswith(path.name) and (owner := _OWNER.fullmatch(file.name, len(path.name))):
            yield file, owner


def _make(path: Path, pid: int) -> Path:
    """Make the file of a process of this machine."""
    file = path.with_name(f"{path.name}.{_machine()}.{pid}-{_start(pid) or ''}-{os.urandom(4).hex()}")
    file.touch(exist_ok=False)
    return file


def _touched(file: Path) -> float:
    """Return when a file was last touched; open it, as NFS asks its server then."""
    with contextlib.suppress(PermissionError), file.open("rb") as opened:
        return os.fstat(opened.fileno()).st_mtime
    return file.stat().st_mtime


@functools.cache
def _machine() -> str:
    """Return the machine's name with a digest of its boot and pid namespace, in which pid and start name a process."""
    known = ""
    with contextlib.suppress(OSError):  # not Linux
        known = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        known += str(Path("/proc/self/ns/pid").readlink())
    return f"{os.uname().nodename}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def _start(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; "" if that is not known, None if it has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # another user's
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux, or a /proc that hides other users' processes
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _lives(pid: int, start: str) -> bool:
    """Return whether a process of this machine has not ended; a later one may have its pid."""
    now = _start(pid)
    return now is not None and (now == start or "" in (now, start))
