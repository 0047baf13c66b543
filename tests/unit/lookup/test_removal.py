import os
import shutil
import time
from pathlib import Path

import pytest
from doubles.recorded_runs import make_run

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.lookup.records import RunRecord, read_run
from textrnn.lookup.removal import PREFIX, Removable, removable, remove, seconds_of


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRecord]:
    """A run and a sweep of two, two days old; one of the sweep has failed."""
    for name, status in {"alone": "finished", "sweep/a": "finished", "sweep/b": "failed"}.items():
        make_run(tmp_path / name, summary={"status": status})
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    return [read_run(tmp_path / name) for name in ("alone", "sweep/a", "sweep/b")]


def offered(
    runs: list[RunRecord], chosen: list[RunRecord], *, flat: bool = False, age: str = "1d"
) -> tuple[list[str], list[str]]:
    top = runs[0].path.parent
    within = {run.path: run.path.parent for run in runs if run.path.parent != top}
    found, lines = removable(runs, chosen, within, seconds=seconds_of(age), flat=flat)
    return [str(folder.path.relative_to(top)) for folder in found], [line.replace(f"{top}/", "") for line in lines]


def test_a_sweep_is_removed_whole_or_stays(runs: list[RunRecord]) -> None:
    assert offered(runs, runs) == (["alone", "sweep"], [])
    stays = "sweep stays: 1 of its 2 runs match; --flat removes single runs of it"
    assert offered(runs, runs[:2]) == (["alone"], [stays])
    assert offered(runs, runs[:2], flat=True) == (["alone", "sweep/a"], [])
    assert offered(runs, runs, age="3d") == ([], [])
    (runs[1].path / "train.log").touch()  # such as a resumed run's
    assert offered(runs, runs) == (["alone"], [stays])


def test_what_is_running_stays(runs: list[RunRecord]) -> None:
    (runs[0].path / "summary.json").unlink()
    with FileLock(runs[0].path / ".lock", keep=True), FileLock(runs[1].path.parent / ".lock"):
        now = [read_run(run.path) for run in runs]
        assert offered(now, now) == ([], ["alone stays: it is running", "sweep stays: it is running"])


def test_removal_is_whole_and_refused_to_a_run_in_use(runs: list[RunRecord]) -> None:
    path = runs[1].path.parent
    folder = Removable(path=path, runs=runs[1:], size=0, unsent=0)
    (path.parent / f"{PREFIX}of-a-killed-removal").mkdir()
    with FileLock(runs[2].path / ".lock", keep=True):
        assert not remove(folder)
        assert (path / "a" / "run.json").is_file()
    begun = make_run(path / "c")
    assert not remove(folder)
    shutil.rmtree(begun)
    assert remove(folder)
    assert [entry.name for entry in path.parent.iterdir()] == ["alone"]


def test_ages() -> None:
    assert [seconds_of(age) for age in ("12h", "1.5d", "2w")] == [43200, 129600, 1209600]
    for age in ("30", "d", "-1d", "5m"):
        with pytest.raises(InputError, match="such as 12h, 30d or 2w"):
            seconds_of(age)
