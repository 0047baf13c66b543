"""Neither races, kills, broken streams nor full disks harm the token store."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from pathlib import Path

import pytest
from doubles.lockless import lockless
from doubles.small_stores import ListSource, assert_only_store, contents, reviews, synthetic

from textrnn.base.errors import InputError
from textrnn.base.locks import STALE, FileLock
from textrnn.config.schema import DataConfig
from textrnn.data.sources import Row
from textrnn.data.store import prepare_store


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(ListSource):
        def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
            yield from self.all_rows[:2000]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(DataConfig(cache_dir=str(tmp_path / "cache")), source=Interrupted(reviews()))
    assert contents(tmp_path) == []


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    source = ListSource(reviews())
    source.breaks_after = 1700
    with pytest.raises(InputError, match=r"the connection broke.*data\.path.*data=synthetic"):
        prepare_store(DataConfig(cache_dir=str(tmp_path / "cache")), source=source)
    assert contents(tmp_path) == []


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"data\.cache_dir"):
        prepare_store(DataConfig(cache_dir=str(tmp_path / "file")), source=ListSource(reviews(100)))


PREPARE = """
import logging, resource, signal, sys
from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.store import prepare_store
from textrnn.base.errors import InputError
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
cache, largest_file = sys.argv[1], int(sys.argv[2])
if largest_file:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
reviews = SyntheticConfig(train_reviews=1500, test_reviews=200)
data = DataConfig(source="synthetic", synthetic=reviews, cache_dir=cache)
try:
    print("ready", prepare_store(data).fingerprint, flush=True)
except InputError as error:
    print("refused:", error)
"""


def start(cache: Path, largest_file: int = 0, environment: Mapping[str, str] = os.environ) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PREPARE, str(cache), str(largest_file)]
    environment = {**environment, "RAYON_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_of_four_processes_one_makes_the_store(tmp_path: Path) -> None:
    outputs = [finish(process) for process in [start(tmp_path) for _ in range(4)]]
    store = prepare_store(synthetic(tmp_path))
    assert all(f"ready {store.fingerprint}" in output for output in outputs)
    assert sum("token store made" in output for output in outputs) == 1
    assert_only_store(tmp_path, store)


@pytest.mark.slow
def test_machines_without_file_locks_make_one_store(tmp_path: Path) -> None:
    """The first owner of the draft is killed; on each of two machines, two more processes wait for its store."""
    cache = tmp_path / "cache"
    node1, *others = (
        lockless(tmp_path / "site", flock, machine)
        for flock, machine in (("failing", "node1"), *product(("failing", "pretending"), ("node2", "node3")))
    )
    first = start(cache, environment=node1)
    while not any(cache.glob("stores/.tmp-*")):
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.communicate()
    (claim,) = cache.glob("stores/*.lock.node1-*")
    (draft,) = cache.glob("stores/.tmp-*")
    waiting = [start(cache, environment=environment) for environment in others]
    time.sleep(4)  # they have asked for the lock by now
    assert (list(cache.glob("stores/.tmp-*")), claim.exists()) == ([draft], True)
    os.utime(claim, (0, time.time() - STALE - 1))
    outputs = [finish(process) for process in waiting]
    store = prepare_store(synthetic(cache))
    assert all(f"ready {store.fingerprint}" in output for output in outputs)
    assert sum("token store made" in output for output in outputs) == 1
    assert all(output.count("file locks don't work on this disk") == 1 for output in outputs)
    assert_only_store(cache, store)


@pytest.mark.slow
def test_a_kill_at_any_moment_needs_no_cleaning(tmp_path: Path) -> None:
    generator = random.Random(0)
    making_seconds = 0.0
    seen_drafts = 0
    for number in range(7):
        cache = tmp_path / f"{number}"
        process = start(cache)
        while not any(cache.glob("stores/.tmp-*")) and process.poll() is None:
            time.sleep(0.005)
        began = time.monotonic()
        if number == 0:  # how long a whole one takes, after its imports
            finish(process)
            making_seconds = time.monotonic() - began
            continue
        time.sleep(making_seconds * generator.uniform(0.0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen_drafts += any(cache.glob("stores/.tmp-*"))
        assert_only_store(cache, prepare_store(synthetic(cache)))
    assert seen_drafts > 0


def test_drafts_of_other_stores_go_unless_their_maker_lives(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    (stores / ".tmp-0123-aa").mkdir(parents=True)
    (living := stores / ".tmp-4567-bb").mkdir()
    with FileLock(stores / "4567.lock"):
        prepare_store(synthetic(tmp_path))
        assert sorted(stores.glob(".tmp-*")) == [living]
    other = synthetic(tmp_path)
    other.vocab_size -= 1
    prepare_store(other)
    assert list(stores.glob(".tmp-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("largest_file", [30_000, 400_000])
def test_a_full_disk_is_named_and_keeps_nothing(tmp_path: Path, largest_file: int) -> None:
    cache = tmp_path / "cache"
    output = finish(start(cache, largest_file))
    assert "refused: data.cache_dir: cannot write to" in output
    assert not cache.exists()
    assert "ready" in finish(start(cache))
