"""The command `runs` on directories of runs as they are found."""

import csv
import io
import json
import os
import time
from pathlib import Path

import pytest
from doubles.recorded_runs import make_run
from support import Command


@pytest.fixture
def runs(place: Path) -> Path:
    """Runs of today, one without an end, one damaged, and a sweep of two, two days old."""
    folder = place / "runs"
    make_run(folder / "sweep" / "a", cell="lstm", summary={"val/accuracy": 0.9, "test/accuracy": 0.7})
    make_run(folder / "sweep" / "b", cell="lstm", summary={"val/accuracy": 0.8, "status": "stopped"})
    (folder / "sweep" / "sweep.yaml").touch()
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    make_run(folder / "one", summary={"val/accuracy": 0.85, "test/accuracy": 0.95}, created="2026-11-03T10:00:00+00:00")
    make_run(folder / "killed", created="2026-11-02T10:00:00+00:00")
    (make_run(folder / "damaged") / "run.json").write_text("{")
    return folder


def test_the_table_folds_sweeps_filters_and_sorts(here: Command, runs: Path) -> None:
    done = here("runs", "ls")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["path", "runs/one", "runs/killed", "runs/sweep/", "runs/damaged"]
    assert "1 finished, 1 stopped" in lines[3]
    assert "damaged: its run.json or config.yaml can't be read" in lines[4]
    assert lines[-1] == "5 runs: 2 finished, 1 stopped, 1 killed, 1 damaged"
    done = here("runs", "ls", "--flat", "--where", "val/accuracy>0.8", "--sort", "-val/accuracy", "--columns", "seed")
    assert [line.split() for line in done.stdout.splitlines()[:3]] == [
        ["path", "state", "seed"],
        ["runs/sweep/a", "finished", "0"],
        ["runs/one", "finished", "0"],
    ]
    assert done.stdout.splitlines()[-1] == "2 runs: 2 finished; 5 in all"
    assert [line.split()[0] for line in here("runs", "ls", "runs/sweep").stdout.splitlines()[1:3]] == [
        "runs/sweep/a",
        "runs/sweep/b",
    ]
    assert here("runs", "ls", "--where", "seed=7").stdout.startswith("none of 5 runs")


def test_the_best_is_one_path_that_validation_chose(here: Command, runs: Path) -> None:
    done = here("runs", "best")
    assert (done.returncode, done.stdout) == (0, "runs/sweep/a\n")
    assert "val/accuracy 0.9000, the best of 2 finished runs" in done.stderr
    assert "1 damaged run is left out" in done.stderr
    assert here("runs", "best", "--where", "model.cell=gru").stdout == "runs/one\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "absent"], "absent: there is no such folder"),
        (["ls", "--where", "model.cel=gru"], "did you mean model.cell?"),
        (["ls", "--sort", "val/acuracy"], "did you mean val/accuracy?"),
        (["ls", "--columns", "sed"], "did you mean seed?"),
        (["best", "--metric", "test/accuracy"], "the test must not choose a run"),
        (["best", "--where", "state=killed"], "no finished run here has val/accuracy"),
        (["show", "runs"], "runs is not a run; textrnn runs ls runs lists"),
        (["show", "runs/damaged"], "can't be read"),
        (["rm", "--older-than", "30"], "such as 12h, 30d or 2w"),
        (["rm", "--older-than", "1d"], "type --yes"),
    ],
)
def test_wrong_input_is_refused(here: Command, runs: Path, arguments: list[str], message: str) -> None:
    done = here("runs", *arguments)
    assert (done.returncode, done.stdout.count("\n") < 4) == (2, True)
    assert message in done.stderr


def test_the_export_is_whole(here: Command, runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(here("runs", "export", "--csv").stdout)))
    assert [row["path"] for row in rows] == ["runs/one", "runs/killed", "runs/sweep/a", "runs/sweep/b"]
    assert (rows[0]["val/accuracy"], rows[0]["optimizer.betas"], rows[1]["val/accuracy"]) == ("0.85", "[0.9,0.999]", "")
    done = here("runs", "export", "--json", "--where", "model.cell=lstm", "--output", "out.json")
    assert done.stdout == "2 runs: out.json\n"
    first, second = json.loads(Path("out.json").read_text())
    assert (first["within"], first["config"]["model.cell"]) == ("runs/sweep", "lstm")
    assert second["summary"]["status"] == "stopped"


def test_two_runs_are_shown_and_compared(here: Command, runs: Path) -> None:
    assert "place" in here("runs", "show", "runs/one").stdout
    assert "model.cell" in here("runs", "diff", "runs/one", "runs/sweep/a").stdout


def test_old_runs_are_removed_with_a_word_on_what_is_not_uploaded(here: Command, runs: Path) -> None:
    unsent = runs / "sweep" / "b" / "wandb-unsent"
    unsent.touch()
    part = here("runs", "rm", "runs/sweep", "--older-than", "1d", "--where", "state=finished", "--yes")
    assert "runs/sweep stays: 1 of its 2 runs match" in part.stdout
    done = here("runs", "rm", "--older-than", "1d", "--yes")
    assert done.returncode == 0, done.stderr
    assert "NOT UPLOADED to W&B: 1" in done.stdout
    assert "to be removed for good: 2 runs, 1 of them not uploaded to W&B" in done.stdout
    assert sorted(path.name for path in runs.iterdir()) == ["damaged", "killed", "one"]
    assert here("runs", "rm", "--older-than", "1d", "--yes").stdout == "nothing to remove\n"
