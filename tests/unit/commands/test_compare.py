import csv
from pathlib import Path

import numpy as np
import pytest
from doubles.compared_runs import write_run

from textrnn import cli

REVIEWS = np.arange(1000)


def compare(*typed: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert cli.run("compare", typed) == code
    shown = capsys.readouterr()
    return shown.out if code == 0 else shown.err


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three cells with two seeds each; the GRU has 5 points more than the RNN, the LSTM about as many."""
    for cell, worse, every in (("rnn", 100, 10), ("lstm", 98, 9), ("gru", 50, 10)):
        for seed in (0, 1):
            wrong = (REVIEWS * every + seed) % 1000 < worse
            write_run(tmp_path / "runs" / f"{cell}{seed}", ~wrong, seed=seed, model={"cell": cell}, trainer={"a": cell})
    return tmp_path / "runs"


def test_two_runs_and_a_sentence(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = compare(str(runs / "rnn0"), str(runs / "gru0"), capsys=capsys)
    assert "model.cell=gru is better than model.cell=rnn on these 1,000 test reviews, one model of each: +5.00" in shown
    assert "another seed makes others" in shown
    assert "the runs also differ in trainer.a" in shown
    shown = compare(str(runs / "rnn0"), str(runs / "lstm0"), capsys=capsys)
    assert "The data don't show which of model.cell=lstm and model.cell=rnn is better" in shown
    assert "points or more. This" in shown


def test_a_folder_is_grouped_by_seed_and_ranking_on_test_is_named(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = str(runs / "rnn1")
    output = runs / "tables"
    shown = compare(str(runs), "--against", against, "--reviews", "2", "--output", str(output), capsys=capsys)
    assert "compared with model.cell=rnn" in shown
    assert "3 settings are ranked on test" in shown
    assert "2 seeds" in shown
    assert "by Holm's method for 2 comparisons" in shown
    assert "their texts are left out" in shown
    with (output / "comparisons.csv").open(newline="") as file:
        rows = {row["setting"]: row for row in csv.DictReader(file)}
    assert rows["model.cell=gru"]["difference"] == "0.05"
    assert sorted(path.name for path in output.iterdir()) == [
        *("comparisons.csv", "disagreements.csv", "groups.csv", "settings.csv")
    ]


def test_two_groups(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [str(runs / name) for name in ("gru0", "gru1")], [str(runs / name) for name in ("rnn0", "lstm1")]
    shown = compare(*typed[0], "--", *typed[1], capsys=capsys)
    ours, theirs = (", ".join(side) for side in typed)
    assert f"The data don't show which of {ours} and {theirs} is better (these 1,000 test reviews, 2 seeds)" in shown


def test_what_can_not_be_compared_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "one setting" in compare(str(runs / "gru0"), str(runs / "gru1"), capsys=capsys, code=2)
    assert "two runs" in compare(str(runs / "gru0"), capsys=capsys, code=2)
    typed = (str(runs / "gru0"), str(runs / "rnn0"))
    assert "not measured on validation" in compare(*typed, "--split", "validation", capsys=capsys, code=2)
    assert "is not one of the runs" in compare(*typed, "--against", str(runs / "lstm0"), capsys=capsys, code=2)
    seeds = compare(*typed, "--", str(runs / "lstm0"), str(runs / "lstm1"), capsys=capsys, code=2)
    assert "another run of its side has seed 0" in seeds
    write_run(runs / "fewer", REVIEWS[:900] > 50, model={"cell": "elman"})
    assert "there are 1,000 and 900" in compare(str(runs / "gru0"), str(runs / "fewer"), capsys=capsys, code=2)
    csv_file = runs / "rnn0" / "evaluation-test" / "predictions.csv"
    csv_file.write_text("index,label\n0,1\n")
    assert "can't be read" in compare(*typed, capsys=capsys, code=2)


def test_a_sweep_by_test_is_called_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "sweep.yaml").write_text("metric:\n  name: test/accuracy\n")
    assert "is a sweep by test/accuracy" in compare(str(runs), capsys=capsys)
