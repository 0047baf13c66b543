"""`--resume` as it is typed: from where, with which file, and with how many trials."""

from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.sweep_runs import leaderboard, sweep_file
from doubles.sweeps_made import trial

from textrnn.errors import InputError
from textrnn.sweeping.command import main
from textrnn.sweeping.sweep_file import read_sweep
from textrnn.sweeping.trials import Status, SweepDirectory

Begun = Callable[..., SweepDirectory]


@pytest.fixture
def begun(place: Path) -> Begun:
    """Makes a sweep of `sweep.yaml` in `place` whose grid of one setting is through."""

    def make(*typed: str) -> SweepDirectory:
        made = read_sweep(place / "sweep.yaml", typed)
        directory = SweepDirectory.create(made)
        directory.save(trial(1, {"optimizer.lr": 0.01}, Status.FINISHED))
        directory.release()
        return directory

    return make


def test_from_another_folder_it_goes_on_where_it_began(
    place: Path, begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "reviews").mkdir()
    for split in ("train", "test"):
        (place / "reviews" / f"{split}.csv").write_text("text,label\ngood,1\nbad,0\n")
    command = ["${program}", "data=imdb", "data.path=reviews", "resume=auto", "test=false", "${args_no_hyphens}"]
    sweep_file(place, command=command)
    directory = begun()
    begun_at = place / directory.path
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["--resume", str(begun_at)]) == 0
    assert Path.cwd() == place
    assert list(elsewhere.iterdir()) == []
    assert [row["status"] for row in leaderboard(begun_at)] == ["finished"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"going on in {place}, where the sweep was begun"
    assert lines[-1] == f"sweep directory: {begun_at}"


def test_a_sweep_of_wandb_that_was_moved_is_refused(place: Path, begun: Begun) -> None:
    sweep_file(place)
    directory = begun()
    directory.registered.write_text("tester/films/sweep001\n")
    moved = (place / directory.path).rename(place / "moved")
    with pytest.raises(InputError, match=r"W&B's agents would write to .*/workplace/runs/sweep001; move it there"):
        main(["--resume", str(moved)])
    (place / "runs" / "sweep001").mkdir()
    with pytest.raises(InputError, match="move it there"):
        main(["--resume", str(moved)])
