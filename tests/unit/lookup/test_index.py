import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from doubles.recorded_runs import make_run

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.lookup import index
from textrnn.lookup.index import Index, find_runs
from textrnn.lookup.records import read_files


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of five runs, one in a sweep, whose files are an hour old; a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "runs"
    for number in range(4):
        make_run(folder / str(number), seed=number, summary={"val/accuracy": number / 10})
    make_run(folder / "sweep" / "trial", summary={})
    (folder / "sweep" / "sweep.yaml").touch()
    age(folder)
    return folder


def age(folder: Path) -> None:
    """Set the times of all files an hour back."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def read_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[index.Found, list[str]]:
    """Find the runs; return them with the names of those whose files were read."""
    read: list[str] = []

    def noted(path: Path) -> object:
        read.append(path.name)
        return original(path)

    original = read_files
    with monkeypatch.context() as patch:
        patch.setattr(index, "read_files", noted)
        return find_runs([str(folder)]), read


def test_files_are_read_once_and_again_when_they_change(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, read = read_again(monkeypatch, runs)
    assert read == ["0", "1", "2", "3", "trial"]
    assert first.within == {runs / "sweep" / "trial": runs / "sweep"}
    second, read = read_again(monkeypatch, runs)
    assert (second, read) == (first, [])
    (runs / "1" / "summary.json").write_text(json.dumps({"status": "failed"}))
    (runs / "2" / "summary.json").unlink()
    third, read = read_again(monkeypatch, runs)
    assert read == ["1", "2"]
    assert [run.state for run in third.runs] == ["finished", "failed", "killed", "finished", "finished"]
    # A change in the same moment may leave time and size, so a new file is not trusted yet.
    assert read_again(monkeypatch, runs)[1] == ["1"]


def test_the_state_of_a_run_in_the_index_is_that_of_its_lock(runs: Path) -> None:
    (runs / "0" / "summary.json").unlink()
    assert find_runs([str(runs)]).runs[0].state == "killed"
    with FileLock(runs / "0" / ".lock", keep=True):
        assert find_runs([str(runs)]).runs[0].state == "running"
    assert find_runs([str(runs)]).runs[0].state == "killed"


def test_a_folder_that_moved_and_a_damaged_index_are_read_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_runs([str(runs)])
    moved = runs.rename(runs.with_name("moved"))
    assert len(find_runs([str(moved)]).runs) == 5
    for content in (b"{", b"[]", b'{"format": 0}', b""):
        Index(moved).path.write_bytes(content)
        assert len(read_again(monkeypatch, moved)[1]) == 5
    shutil.rmtree(moved / "3")
    assert len(find_runs([str(moved)]).runs) == 4
    assert "3" not in json.loads(Index(moved).path.read_bytes())["runs"]


def test_without_a_cache_runs_are_read_with_a_warning(
    runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (runs.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(runs.parent / "file"))
    assert len(find_runs([str(runs)]).runs) == 5
    assert "can't be written" in caplog.text


def test_a_run_named_twice_is_found_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    assert len(find_runs([".", str(runs), "sweep", "1"]).runs) == 5
    assert [str(run.path) for run in find_runs(["."]).runs][-1] == "sweep/trial"


def test_damaged_runs_cost_no_other(runs: Path) -> None:
    torn: dict[str, tuple[str, bytes | None]] = {
        "no identity": ("run.json", None),
        "torn identity": ("run.json", b'{"id": '),
        "identity of something else": ("run.json", b"[]"),
        "no configuration": ("config.yaml", None),
        "torn configuration": ("config.yaml", b"model:\n  cell"),
        "binary configuration": ("config.yaml", b"\x00\xff"),
        "torn summary": ("summary.json", b'{"status": "fin'),
        "empty summary": ("summary.json", b""),
    }
    for number in range(100, 190):
        make_run(runs / str(number), summary={"val/accuracy": random.random()})
    for number, (name, (file, content)) in enumerate(torn.items(), start=1):
        run = make_run(runs / name, summary={})
        (run / "metrics.csv").touch()
        (run / file).unlink()
        if content is not None:
            (run / file).write_bytes(content)
        found = find_runs([str(runs)])
        assert (len(found.damaged), len(found.runs)) == (number, 95), name
    (runs / "torn summary" / "summary.json").unlink()
    (runs / "torn summary" / "summary.json").mkdir()
    found = find_runs([str(runs)])
    assert len(found.damaged) == len(torn)
    assert all(run.summary["damage"] and "\n" not in run.summary["damage"] for run in found.damaged)


def test_no_run_is_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no run in this folder"):
        find_runs([str(tmp_path / "empty")])
    assert not (tmp_path / "cache").exists()
