"""The end of a multirun."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console
from support import Command

from textrnn.base.console import print_table
from textrnn.base.errors import InputError
from textrnn.config.schema import Config
from textrnn.multirun.comparison import (
    ComparedRun,
    compared_runs,
    conclude,
    differences_of,
    different_sources,
    settings_of,
    write_comparison,
)
from textrnn.multirun.jobs import Job, Multirun
from textrnn.tracking.identity import new_identity, write_identity

OVERRIDES = [[f"model={cell}", f"seed={seed}", "data=synthetic"] for cell in ("rnn", "gru") for seed in (0, 1, 2)]
ACCURACIES = [0.5, 0.6, 0.7, 0.8, 0.9, None]


def finished(parent: Path) -> None:
    for number, accuracy in enumerate(ACCURACIES):
        folder = parent / str(number)
        folder.mkdir()
        status = "finished" if accuracy is not None else "stopped"
        summary = {"test/accuracy": accuracy or 0.1, "status": status, "seconds": 1.0}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "config.yaml").write_text(f"seed: {number % 3}")


def compared(parent: Path) -> list[dict[str, str]]:
    """Rows of comparison.csv."""
    with (parent / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def runs(parent: Path, *codes: int) -> list[ComparedRun]:
    all_codes = [*codes, *[0] * (len(OVERRIDES) - len(codes))]
    return compared_runs(
        [
            Job(config=Config(run_dir=str(parent / str(number))), overrides=overrides, exit_code=code)
            for number, (overrides, code) in enumerate(zip(OVERRIDES, all_codes, strict=True))
        ]
    )


def test_seeds_of_a_setting_are_joined_and_what_has_not_finished_is_left_out(tmp_path: Path) -> None:
    finished(tmp_path)
    rnn, gru = settings_of(runs(tmp_path))
    assert (rnn.name, gru.name) == ("model=rnn", "model=gru")
    assert (rnn.seeds, gru.seeds) == ([0, 1, 2], [0, 1])
    assert rnn.mean("test/accuracy") == pytest.approx(0.6)
    assert rnn.deviation("test/accuracy") == pytest.approx(0.1)
    assert gru.mean("test/accuracy") == pytest.approx(0.85)
    assert (rnn.unfinished, gru.unfinished) == (0, 1)


def test_what_ended_otherwise_does_not_count_with_what_an_earlier_call_left(tmp_path: Path) -> None:
    finished(tmp_path)
    rnn, _ = settings_of(runs(tmp_path, 0, 2))
    assert (rnn.seeds, rnn.unfinished) == ([0, 2], 1)
    assert rnn.values("test/accuracy") == [0.5, 0.7]


def test_a_seed_counts_once(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "1" / "config.yaml").write_text("seed: 0")
    rnn, _ = settings_of(runs(tmp_path))
    assert (rnn.seeds, rnn.values("test/accuracy"), rnn.unfinished) == ([0, 2], [0.5, 0.7], 0)
    assert rnn.deviation("test/accuracy") == pytest.approx(0.1414, abs=1e-4)


def test_an_edit_between_two_runs_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = replace(new_identity(Config(), ["train.py"]), git_commit="c0ffee0123", git_dirty=True)
    committed = replace(edited, git_commit="decaf00123", git_dirty=False)  # of the same files
    for number, identity in enumerate((edited, committed, replace(edited, source="another"))):
        (tmp_path / str(number)).mkdir()
        write_identity(tmp_path / str(number) / "run.json", identity)
    run_dirs = [tmp_path / name for name in ("0", "1", "2", "not-begun")]
    assert different_sources(run_dirs[:2]) is None
    line = different_sources(run_dirs)
    assert line is not None
    assert f"2 with commit c0ffee0 with changes (source {str(edited.source)[:8]}), such as {tmp_path / '0'}" in line
    assert f"1 with commit c0ffee0 with changes (source another), such as {tmp_path / '2'}" in line
    jobs = [Job(config=Config(run_dir=str(path)), overrides=[], exit_code=0) for path in run_dirs]
    conclude(cast(Multirun, SimpleNamespace(parent=tmp_path, jobs=jobs, remove_if_unused=lambda: None)))
    assert line in capsys.readouterr().out


def test_what_has_diverged_is_in_no_mean(tmp_path: Path) -> None:
    finished(tmp_path)
    diverged = {"val/loss": math.nan, "test/loss": math.nan, "test/accuracy": math.nan, "status": "finished"}
    (tmp_path / "1" / "summary.json").write_text(json.dumps(diverged))
    late = {"train/loss": math.nan, "test/accuracy": 0.7, "status": "finished"}  # its best checkpoint is an earlier one
    (tmp_path / "2" / "summary.json").write_text(json.dumps(late))
    (table, _), _ = write_comparison(tmp_path, runs(tmp_path))
    assert list(table.columns[1].cells) == ["0.6000 ± 0.1414", "0.8500 ± 0.0707"]
    assert list(table.columns[2].cells) == ["2 of 3, 1 diverged", "2 of 3"]
    rows = compared(tmp_path)
    assert [(row["unfinished"], row["diverged"]) for row in rows] == [("0", "1"), ("1", "0")]


def test_table_and_picture(tmp_path: Path) -> None:
    finished(tmp_path)
    (table, _), _ = write_comparison(tmp_path, runs(tmp_path))
    assert list(table.columns[1].cells) == ["0.6000 ± 0.1000", "0.8500 ± 0.0707"]
    assert list(table.columns[2].cells) == ["3", "2 of 3"]
    rows = compared(tmp_path)
    assert [row["seeds"] for row in rows] == ["0 1 2", "0 1"]
    assert float(rows[0]["test/accuracy mean"]) == pytest.approx(0.6)
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "3" / "config.yaml").write_text("seed: 2")  # 0.8 and 0.9 of seeds 2 and 1, against 0.7 and 0.6
    lines = differences_of(settings_of(runs(tmp_path))).lines()
    # 0.1 and 0.3: mean 0.2, standard error 0.1, and Student's t is 12.706 for one degree of freedom.
    assert lines == [
        "test/accuracy minus that of model=rnn, seed by seed (95 % interval):",
        "  model=gru: +0.2000 (-1.0706 to +1.4706), p = 0.3, n = 2",
    ]
    (tmp_path / "4" / "config.yaml").write_text("seed: 7")
    assert differences_of(settings_of(runs(tmp_path))).lines() == [], "a single pair has no interval"


def test_predictions_of_the_same_reviews_are_compared_review_by_review(tmp_path: Path) -> None:
    finished(tmp_path)
    for number in range(5):
        folder = tmp_path / str(number) / "evaluation-test"
        folder.mkdir()
        (folder / "metrics.json").write_text('{"classes": ["negative", "positive"]}')
        right = [review % 10 >= (3 if number < 3 else 1) for review in range(200)]
        rows = [f"{review},1,{review + 1},{0.9 if is_right else 0.1}" for review, is_right in enumerate(right)]
        (folder / "predictions.csv").write_text("\n".join(["index,label,tokens,probability", *rows]))
    write_comparison(tmp_path, runs(tmp_path))
    rnn, gru = compared(tmp_path)
    assert (rnn["difference"], gru["difference"], gru["difference n"]) == ("", "0.2", "2")
    # Both seeds are right on the same reviews: the error is that of 200 reviews, sqrt(0.2 * 0.8 / 199).
    assert float(gru["difference high"]) == pytest.approx(0.2 + 1.97196 * (0.16 / 199) ** 0.5, abs=1e-5)
    (tmp_path / "4" / "evaluation-test" / "predictions.csv").unlink()
    assert "seed by seed" in differences_of(settings_of(runs(tmp_path))).heading


def test_jobs_that_failed_are_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path)
    codes: list[int | None] = [0, 1, 2, 0, 0, None]
    jobs = [
        Job(config=Config(run_dir=str(tmp_path / str(number))), overrides=overrides, exit_code=code)
        for number, (overrides, code) in enumerate(zip(OVERRIDES, codes, strict=True))
    ]
    (tmp_path / "1" / "train.log").touch()
    conclude(Multirun(parent=tmp_path, jobs=jobs))
    *_, crashed, refused, missing, last = capsys.readouterr().out.splitlines()
    assert crashed == f"job 1 (model=rnn, seed=1) failed with exit code 1; its log: {tmp_path / '1' / 'train.log'}"
    assert refused == "job 2 (model=rnn, seed=2) was refused: wrong input, see above"
    assert missing == "job 5 (model=gru, seed=2) was not started"
    assert last == f"3 of 6 runs done: {tmp_path}"


@pytest.mark.parametrize(("columns", "losses"), [("80", False), ("100", True), ("120", True), (None, True)])
def test_no_number_is_broken_in_any_width(
    tmp_path: Path,
    columns: str | None,
    losses: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    finished(tmp_path)
    for place in range(5):
        summary = json.loads((tmp_path / str(place) / "summary.json").read_text())
        summary |= {"val/accuracy": 0.9 + place / 100, "val/loss": 0.25 + place / 100, "test/loss": 0.3 + place / 100}
        (tmp_path / str(place) / "summary.json").write_text(json.dumps(summary))
    print_table(*write_comparison(tmp_path, runs(tmp_path))[0])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns or 1000)
    (rnn,) = (line for line in lines if line.lstrip().startswith("model=rnn"))
    shown = ["0.2600 ± 0.0100", "0.9100 ± 0.0100", "0.3100 ± 0.0100", "0.6000 ± 0.1000"]
    assert [cell.strip() for cell in rnn.split("│")[1:-1]] == (shown if losses else shown[1::2])
    assert (lines[-1].strip() == "val/loss and test/loss: comparison.csv") is not losses


def test_what_was_typed_is_no_markup_and_no_formula(tmp_path: Path) -> None:
    finished(tmp_path)
    typed = ["tracking.notes='$a^$'", "tracking.name='a [/b] c'", "tracking.notes='[red]'"]
    made = [ComparedRun(overrides=[text], run_dir=tmp_path / str(place), done=True) for place, text in enumerate(typed)]
    (table, _), _ = write_comparison(tmp_path, made)
    console = Console(file=io.StringIO(), width=60)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(text in shown for text in typed)
    assert (tmp_path / "comparison.png").is_file()


def test_no_finished_job_has_no_table_and_a_torn_summary_is_said(tmp_path: Path) -> None:
    assert write_comparison(tmp_path, runs(tmp_path))[0] == []
    assert list(tmp_path.iterdir()) == []
    finished(tmp_path)
    (tmp_path / "0" / "summary.json").write_text('{"status": "fin')
    with pytest.raises(InputError, match="is damaged"):
        write_comparison(tmp_path, runs(tmp_path))


@pytest.mark.slow
def test_a_multirun_ends_in_its_comparison(here: Command, workplace: Path) -> None:
    few = ["data.synthetic.train_reviews=200", "data.synthetic.test_reviews=40", "model.hidden_size=8"]
    arguments = ["data=synthetic", *few, "trainer=debug", "tracking=none", "run_dir=jobs"]
    done = here("train.py", "-m", *arguments, "model=rnn,gru", "seed=0,1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "±" in line]
    assert [line.split()[0] for line in lines] == ["model=rnn", "model=gru"]
    assert done.stdout.rstrip().endswith("4 of 4 runs done: jobs")
    assert (workplace / "jobs" / "comparison.png").is_file()
