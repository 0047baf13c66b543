"""What a sweep leaves: ranks, the best setting, and pictures."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.sweeps_made import metric, sweep, trial

from textrnn.config.schema import Config
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.plots import plot_sweep
from textrnn.sweeping.results import best_setting, print_ranking, record, undominated, write_leaderboard
from textrnn.sweeping.trials import SweepDirectory, Trial
from textrnn.tracking.identity import new_identity, write_identity
from textrnn.tracking.summary import Status

NAN = float("nan")


def trials() -> list[Trial]:
    return [
        trial(1, {"seed": 1}, Status.STOPPED, [0.1]),
        trial(2, {"seed": 2}, Status.FINISHED, [0.5, 0.3, 0.4]),
        trial(3, {"seed": 3}, Status.FAILED, reason="exit code 1: ValueError: x"),
        trial(4, {"seed": 4}, Status.FINISHED, [NAN, 0.2]),
        trial(5, {"seed": 5}, Status.FINISHED, [NAN]),
    ]


@pytest.mark.parametrize(("goal", "order"), [("minimize", "42513"), ("maximize", "24513")])
def test_only_finished_trials_have_a_rank(tmp_path: Path, goal: str, order: str) -> None:
    write_leaderboard(trials(), metric(goal), ["seed"], SweepDirectory(tmp_path))
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    assert "".join(row["trial"] for row in rows) == order
    assert [row["rank"] for row in rows] == ["1", "2", "3", "", ""]
    by_trial = {row["trial"]: row for row in rows}
    assert by_trial["2"]["best val/loss"] == ("0.3" if goal == "minimize" else "0.5")
    assert by_trial["2"]["last val/loss"] == "0.4"
    assert by_trial["5"]["best val/loss"] == ""
    assert by_trial["3"]["reason"] == "exit code 1: ValueError: x"
    assert by_trial["4"]["run_dir"] == str(tmp_path / "run4")


def test_trials_that_no_other_beats_in_all_metrics(tmp_path: Path) -> None:
    metrics = [metric(), Metric(name="train/tokens_per_second", goal="maximize", target=None)]
    points = [(0.3, 10.0), (0.2, 5.0), (0.4, 20.0), (0.4, 15.0), (0.3, 10.0)]
    made = [
        trial(number, {"seed": number}, Status.FINISHED, [loss], finals={"train/tokens_per_second": speed})
        for number, (loss, speed) in enumerate(points, start=1)
    ]
    made.append(trial(6, {"seed": 6}, Status.FINISHED, [0.1]))  # without the second one
    made.append(trial(7, {"seed": 7}, Status.FAILED, [0.1], finals={"train/tokens_per_second": 99.0}))
    assert [found.number for found in undominated(made, metrics)] == [1, 2, 3, 5]
    write_leaderboard(made, metrics[0], ["seed"], SweepDirectory(tmp_path), metrics[1:])
    first = next(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    assert (first["trial"], first["train/tokens_per_second"]) == ("6", "")


def test_the_best_setting_is_the_best_mean_over_seeds() -> None:
    finished = [
        trial(number, {"model": model, "seed": seed}, Status.FINISHED, [value])
        for number, (model, seed, value) in enumerate(
            [("rnn", 0, 0.1), ("rnn", 1, 0.9), ("gru", 0, 0.3), ("gru", 1, 0.4)], start=1
        )
    ]
    assert [chosen.number for chosen in best_setting(finished, metric())] == [3, 4]
    assert [chosen.number for chosen in best_setting(finished, metric("maximize"))] == [1, 2]


def test_a_setting_whose_seeds_did_not_all_finish_comes_after_those_whose_did() -> None:
    seeds = [trial(1, {"lr": 1, "seed": 0}, Status.FINISHED, [0.1]), trial(2, {"lr": 1, "seed": 1}, Status.FAILED)]
    diverged = [trial(3, {"lr": 2, "seed": 0}, Status.FINISHED, [0.1]), trial(4, {"lr": 2}, Status.FINISHED, [NAN])]
    diverged[1].parameters["seed"] = 1
    whole = [
        trial(5, {"lr": 3, "seed": 0}, Status.FINISHED, [0.3]),
        trial(6, {"lr": 3, "seed": 1}, Status.FINISHED, [0.4]),
    ]
    assert [chosen.number for chosen in best_setting([*seeds, *diverged, *whole], metric())] == [5, 6]
    assert [chosen.number for chosen in best_setting([*seeds, *diverged], metric())] == [1]
    again = trial(7, {"lr": 1, "seed": 1}, Status.FINISHED, [0.2])
    assert [chosen.number for chosen in best_setting([*seeds, again, *whole], metric())] == [1, 7], "tried again"


def test_a_draw_that_was_made_again_counts_once() -> None:
    drawn = [("rnn", 0, 0.1), ("rnn", 0, 0.1), ("rnn", 1, 0.5), ("gru", 0, 0.25)]
    finished = [
        trial(number, {"model": model, "seed": seed}, Status.FINISHED, [value])
        for number, (model, seed, value) in enumerate(drawn, start=1)
    ]
    assert [chosen.number for chosen in best_setting(finished, metric())] == [4], "a mean of 0.3, and not of 0.233"
    assert [chosen.number for chosen in best_setting(finished[:3], metric())] == [1, 3]


def test_best_yaml_leaves_out_the_seed_and_what_belongs_to_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = sweep(parameters={"model": {"values": ["rnn", "lstm"]}, "seed": {"values": [0, 1]}})
    made.fixed += ["tracking=none", "test=false", "trainer.max_epochs=7"]
    directory = SweepDirectory.create(made)
    finished = [
        trial(number, {"model": model, "seed": seed}, Status.FINISHED, [value])
        for number, (model, seed, value) in enumerate([("rnn", 0, 0.1), ("lstm", 0, 0.05), ("rnn", 1, 0.2)], start=1)
    ]
    record(made, metric(), directory, finished)
    directory.release()
    assert yaml.safe_load((directory.path / "best.yaml").read_text()) == {
        "model": {"cell": "lstm"},
        "optimizer": {"lr": 0.008},  # of model=lstm, which best.yaml doesn't name
        "trainer": {"max_epochs": 7},
    }
    assert f"python train.py experiment=runs/{directory.path.name}/best.yaml" in capsys.readouterr().out


def test_the_test_set_chooses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    by_test = Metric(name="test/accuracy", goal="maximize", target=None)
    made = sweep()
    directory = SweepDirectory.create(made)
    finished = [trial(number, {"seed": number}, Status.FINISHED, [number / 10]) for number in (1, 2)]
    record(made, by_test, directory, finished)
    directory.release()
    assert not (directory.path / "best.yaml").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "validation chooses: a sweep by test/accuracy compares its settings and leaves no best.yaml"
    rows = csv.DictReader((directory.path / "leaderboard.csv").read_text().splitlines())
    assert [row["rank"] for row in rows] == ["1", "2"]


def test_trials_of_different_source_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = sweep()
    directory = SweepDirectory.create(made)
    finished = [trial(number, {"seed": number}, Status.FINISHED, [number / 10]) for number in (1, 2)]
    identity = new_identity(Config(), ["train.py"])
    for each in finished:
        run = directory.run_directory(each)
        run.path.mkdir()
        write_identity(run.run_json, replace(identity, source=f"edit{each.number}"))
    record(made, metric(), directory, finished)
    directory.release()
    assert "textrnn has changed between the runs that are compared here: 1 with " in capsys.readouterr().out


def test_a_sweep_of_which_nothing_finished_has_no_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = sweep()
    directory = SweepDirectory.create(made)
    record(made, metric(), directory, [trial(1, {"seed": 1}, Status.STOPPED, [0.1])])
    directory.release()
    assert "no trial has finished" in capsys.readouterr().out
    assert sorted(path.name for path in directory.path.iterdir() if path.suffix) == [
        *("leaderboard.csv", "sweep.png", "sweep.yaml", "typed.json")
    ]


def test_a_picture_and_a_table_of_every_kind_of_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters: dict[str, dict[str, Any]] = {
        "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "model.dropout": {"min": 0.0, "max": 0.5},
        "model": {"values": ["rnn", "gru"]},
        "data.max_length": {"values": [100, 200]},
        "tracking.notes": {"values": ["$a^$", "[/b]"]},  # no formula, no markup
    }
    given = {"model": "gru", "data.max_length": 200, "tracking.notes": "[/b]"}
    drawn = [
        trial(n, {"optimizer.lr": 10**-n, "model.dropout": n / 10, **given}, status, [n])
        for n, status in enumerate([Status.FINISHED, Status.STOPPED, Status.FAILED, Status.INTERRUPTED], start=1)
    ]
    plot_sweep(drawn, metric(), parameters, tmp_path / "sweep.png", title="sweep $x")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    print_ranking(drawn, metric(), list(parameters))
    assert "[/b]" in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "left_out"), [(80, ["last", "time"]), (100, []), (120, [])])
def test_no_number_of_the_ranking_is_broken(
    columns: int, left_out: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    given = {"optimizer.lr": 0.00123456, "trainer.accumulate_grad_batches": 12, "model.embedding_dropout": 0.123456}
    tried = [trial(number, given, Status.FINISHED, [0.5, 0.25, 0.3]) for number in range(1, 30)]
    tried[0].seconds = 3600.0
    print_ranking(tried, metric(), list(given))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    text = " ".join(lines)
    for setting in ("optimizer.lr=0.001235", "trainer.accumulate_grad_batches=12", "model.embedding_dropout=0.1235"):
        assert text.count(setting) == 20
    assert lines[-1].strip() == f"leaderboard.csv has {' and '.join(['9 more trials', *left_out])}"
