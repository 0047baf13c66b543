"""Locks exclude processes on every disk, whatever its `flock` does."""

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.lockless import FLOCKS, lockless

from textrnn.base import locks
from textrnn.base.files import remove_if_abandoned
from textrnn.base.locks import FileLock

HOLD = """
import sys, time
from pathlib import Path
from textrnn.base import locks
locks.BEAT = 0.1
locks.FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PROBED", {})


@pytest.fixture(params=FLOCKS)
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", FLOCKS[request.param])


@pytest.fixture(params=["failing", "pretending"])
def lockless_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("fcntl.flock", FLOCKS[request.param])
    return str(request.param)


@pytest.mark.usefixtures("any_disk")
@pytest.mark.parametrize("keep", [False, True])
def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path, keep: bool) -> None:
    path = tmp_path / "folder" / "name.lock"
    with FileLock(path, keep=keep):
        assert FileLock(path).is_held()
        assert not FileLock(path).acquire(blocking=False)
    assert not FileLock(path).is_held()
    assert list(path.parent.iterdir()) == ([path] if keep else [])


@pytest.mark.usefixtures("any_disk")
def test_a_child_that_inherits_a_lock_holds_it_until_it_ends(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "child.lock", keep=True)
    lock.acquire()
    assert lock.descriptor is not None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,)) as child:
        lock.share(child.pid)
        lock.release()
        assert lock.is_held()
        assert child.stdin is not None
        child.stdin.close()
    assert not lock.is_held()


@pytest.mark.usefixtures("any_disk")
def test_of_many_that_ask_one_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with FileLock(tmp_path / "name.lock"):
                inside.append(number)
                time.sleep(0.002)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 18
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def another_machine(tmp_path: Path, lockless_disk: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of another machine that holds `name.lock`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "shared" / "name.lock")],
        env=lockless(tmp_path / "site", lockless_disk, "node2"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_machines_lock_is_free_when_it_has_not_been_touched_for_minutes(
    tmp_path: Path, another_machine: "subprocess.Popen[str]"
) -> None:
    lock = FileLock(tmp_path / "shared" / "name.lock")
    (claim,) = tmp_path.glob("shared/name.lock.node2-*")
    (draft := tmp_path / "shared" / ".tmp-name-0123").mkdir()
    assert lock.is_held()
    assert not lock.acquire(blocking=False)  # it is touched
    another_machine.kill()
    another_machine.wait()
    remove_if_abandoned(draft, lock.path)
    assert draft.exists()
    os.utime(claim, (0, time.time() - locks.STALE - 1))
    assert not lock.is_held()
    remove_if_abandoned(draft, lock.path)
    assert not draft.exists()
    assert lock.acquire(blocking=False)
    assert not claim.exists()
    lock.release()


def test_a_killed_process_of_this_machine_holds_nothing(
    tmp_path: Path, lockless_disk: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lock = FileLock(tmp_path / "name.lock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock.path)],
        env=lockless(tmp_path / "site", lockless_disk, os.uname().nodename),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert lock.is_held()
        process.kill()
    assert not lock.is_held()
    assert lock.acquire(blocking=False)
    lock.release()
    reason = {"failing": "Function not implemented", "pretending": "two processes get the same lock"}[lockless_disk]
    assert [line for line in caplog.messages if "file locks" in line] == [
        f"{tmp_path}: file locks don't work on this disk ({reason}); files replace them"
    ]


def test_one_that_was_taken_for_dead_ends_when_it_goes_on(tmp_path: Path) -> None:
    environment = lockless(tmp_path / "site", "failing", "node2")
    path = tmp_path / "name.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        (claim,) = tmp_path.glob("name.lock.*")
        other = claim.with_name(claim.name[:-8] + "0" * 8)
        other.touch()
        claim.unlink()
        assert process.wait(timeout=20) == 1
        assert f"{path} was taken by another process while this one stood still" in process.stderr.read()


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("lustre 10.0.0.1@tcp:/home rw,flock", None),
        ("lustre 10.0.0.1@tcp:/home rw,localflock", "localflock"),
        ("nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1", None),
        ("nfs server:/home rw,vers=3,nolock,local_lock=all,addr=10.0.0.1", "local_lock=all"),
        ("beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf", "beegfs"),
    ],
)
def test_locks_of_one_machine_only_are_known_by_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, reason: str | None
) -> None:
    disk = tmp_path.stat().st_dev
    line = f"29 1 {os.major(disk)}:{os.minor(disk)} / {tmp_path} rw,relatime shared:1 - {mount}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"28 1 0:999 / /proc rw - proc proc rw\n{line}")
    assert locks._local_locks(disk) == reason


def test_a_lock_that_may_only_be_read_says_whether_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "name.lock"
    opened = os.open

    def refusing(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *mode)

    holder = FileLock(path, keep=True)
    holder.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # as for another user; the tests may be root's
        patch.setattr(os, "open", refusing)
        assert FileLock(path).is_held()
        holder.release()
        assert not FileLock(path).is_held()
        assert not FileLock(tmp_path / "absent").is_held()
