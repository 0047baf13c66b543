import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from textrnn.base.errors import InputError
from textrnn.tracking.summary import RunSummary, Status, read_status, summary_table, write_summary

SUMMARY = RunSummary(
    status=Status.FINISHED,
    metrics={"test/accuracy": 0.8941, "train/loss": 0.1, "val/loss": 0.3, "val/accuracy": 0.9012},
    parameters=3_200_000,
    tokens=25_000_000,
    seconds=610.0,
    world_size=4,
    batch_size_per_device=16,
    straggler_fraction=0.012,
    step=1760,
    best_step=1056,
    best_epoch=2,
)


def test_keys_are_flat_and_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(path, SUMMARY)
    values = json.loads(path.read_text())
    assert list(values)[:4] == ["train/loss", "val/loss", "val/accuracy", "test/accuracy"]
    assert values["test/accuracy"] == 0.8941
    assert (values["parameters"], values["tokens"], values["seconds"]) == (3_200_000, 25_000_000, 610.0)
    assert (values["world_size"], values["batch_size_per_device"], values["straggler_fraction"]) == (4, 16, 0.012)
    assert values["status"] == "finished"
    assert not any(name.startswith("vectors/") or name == "coverage" for name in values)
    assert RunSummary.from_dict(values) == SUMMARY
    assert RunSummary.from_dict(values | {"temperature": 1.5}).temperature == 1.5
    del values["temperature"]  # as in earlier versions
    assert RunSummary.from_dict(values) == SUMMARY
    del values["tokens"]
    with pytest.raises(InputError, match="tokens"):
        RunSummary.from_dict(values)


def test_how_a_run_ended_is_read_from_a_whole_summary_alone(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    assert read_status(path) is None
    write_summary(path, SUMMARY)
    assert read_status(path) == "finished"
    for text in (path.read_text()[:-3], "", "[]", "{}", '{"status": null}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"summary\.json .*; remove it"):
            read_status(path)


def test_coverage_by_vectors_is_flat_too() -> None:
    coverage = {"vectors/vocabulary_coverage": 0.9, "vectors/text_coverage": 0.99}
    summary = dataclasses.replace(SUMMARY, coverage=coverage)
    values = summary.to_dict()
    assert coverage.items() <= values.items()
    assert RunSummary.from_dict(values) == summary


def test_a_diverged_run_has_a_summary(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", dataclasses.replace(SUMMARY, metrics={"val/loss": math.nan}))
    assert math.isnan(json.loads((tmp_path / "summary.json").read_text())["val/loss"])


def test_table_shows_what_there_is() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table("gru-128x1-bi s0", SUMMARY))
    console.print(
        summary_table("s0", dataclasses.replace(SUMMARY, metrics={}, seconds=0.0, best_step=None, best_epoch=None))
    )
    console.print(summary_table("a [/b] [red]c[/red] :smile:", SUMMARY))
    text = console.export_text()
    assert "a [/b] [red]c[/red] :smile:: finished" in text
    assert "gru-128x1-bi s0: finished" in text
    assert ["accuracy", "0.9012", "0.8941"] in [line.replace("│", " ").split() for line in text.splitlines()]
    assert "best: epoch 3, step 1056   3,200,000 parameters" in text
    assert "25,000,000 tokens in 10 min 10 s, 40,984 a second" in text
    assert "best: none" in text


def test_table_of_a_language_model_has_perplexities() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    metrics = {"train/loss": 5.0, "val/loss": 4.0, "val/perplexity": 54.5982}
    console.print(summary_table("lm-gru-128x1 s0", dataclasses.replace(SUMMARY, metrics=metrics)))
    rows = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["perplexity", "54.5982"] in rows
    assert not any("accuracy" in row for row in rows)
