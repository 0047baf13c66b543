"""`--resume` as it is typed: from where, with which file, and with how many trials."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.sweep_runs import broken, leaderboard, sweep_file
from doubles.sweeps_made import trial

from textrnn.base.errors import InputError
from textrnn.commands.sweep import main
from textrnn.sweeping.sweep_file import read_sweep
from textrnn.sweeping.trials import SweepDirectory
from textrnn.tracking.summary import Status

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
    sweep_file(place, command=command, metric={"name": "val/accuracy", "goal": "maximize"})
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
    assert lines[0] == f"resuming in {place}, where the sweep was started"
    assert lines[-1] == f"sweep directory: {begun_at}"


def test_the_file_that_it_began_with_may_be_named_again(place: Path, begun: Begun) -> None:
    path = sweep_file(place)
    directory = begun("optimizer.weight_decay=0.1", "data.batch_size=16")
    assert main([str(path), "--resume", str(directory.path)]) == 0
    path = sweep_file(place, name="another", run_cap=3)  # neither makes it another sweep
    assert main([str(path), "--resume", str(directory.path)]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("program", "evaluate.py"),
        ("method", "random"),
        ("metric", {"name": "val/accuracy", "goal": "maximize"}),
        ("parameters", {"optimizer.lr": {"values": [0.02, 0.03]}}),
        ("parameters", {"optimizer.lr": {"values": [0.01]}, "seed": {"values": [1, 2]}}),
        ("early_terminate", {"type": "hyperband", "min_iter": 1}),
        ("command", ["data.batch_size=64"]),
        ("command", ["test=true"]),
    ],
)
def test_another_file_is_refused(place: Path, begun: Begun, key: str, value: Any) -> None:
    path = sweep_file(place)
    directory = begun("data.max_length=50")
    before = directory.sweep_yaml.read_bytes()
    if key == "command":
        original = yaml.safe_load(path.read_text())["command"]
        names = [text.partition("=")[0] for text in value]
        value = [*(text for text in original[:-1] if text.partition("=")[0] not in names), *value, original[-1]]
    changed = sweep_file(place, **{"run_cap": 5, key: value})
    with pytest.raises(InputError, match=rf"sweep\.yaml: {key}: is another one than in runs/.*/sweep\.yaml"):
        main([str(changed), "--resume", str(directory.path), "--count", "9"])
    assert directory.sweep_yaml.read_bytes() == before


@pytest.mark.slow
def test_a_grid_that_has_gained_values_runs_them(
    place: Path, begun: Begun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_file(place)
    directory = begun()
    monkeypatch.setenv("PYTHONPATH", broken(place, "optimizer.lr=0.02", "optimizer.lr=0.03"))
    path = sweep_file(place, parameters={"optimizer.lr": {"values": [0.02, 0.01, 0.03]}})
    for _ in range(2):
        main([str(path), "--resume", str(directory.path)])
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if " new setting" in line] == [f"2 new settings in {path}"]
    assert [found.parameters["optimizer.lr"] for found in directory.trials()] == [0.01, 0.02, 0.03]


def test_the_grid_of_a_sweep_of_wandb_stays_as_it_is(place: Path, begun: Begun) -> None:
    sweep_file(place)
    directory = begun()
    directory.registered.write_text(f"tester/films/{directory.path.name}\n")
    path = sweep_file(place, parameters={"optimizer.lr": {"values": [0.01, 0.5]}})
    with pytest.raises(
        InputError, match=r"parameters: is another one than in .* can't change in a sweep that has begun"
    ):
        main([str(path), "--resume", str(directory.path)])


def test_the_count_is_kept(place: Path, begun: Begun) -> None:
    path = sweep_file(place, method="random", run_cap=4, parameters={"optimizer.lr": {"min": 0.001, "max": 0.1}})
    directory = begun()
    assert main(["--resume", str(directory.path), "--count", "1"]) == 0  # its one trial has finished
    assert read_sweep(directory.sweep_yaml).cap == 1
    assert main([str(path), "--resume", str(directory.path)]) == 0
    assert [found.number for found in directory.trials()] == [1]


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
