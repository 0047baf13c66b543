"""Runs on texts with several labels: from jsonl to predictions."""

import csv
import json
from pathlib import Path

import pytest
from doubles.review_files import MARKS, marked_films, write
from doubles.run_files import assert_same_metrics, json_of, predictions, summary
from support import Command

from textrnn.base.process import available_cores

EXACT = (
    *("data.path=films.jsonl", "data.labels_per_text=many", "data.batch_size=40", "tracking=none"),
    *("trainer.precision=64-true", "trainer.max_epochs=4", "optimizer.lr=0.05", "optimizer.warmup_steps=0"),
    *("model.hidden_size=8", "model.embedding.size=8", "model.word_dropout=0", "model.embedding_dropout=0"),
    *("model.output_dropout=0", "model.adversarial=0.05", "model.label_smoothing=0.1", "trainer.log_every_n_steps=1"),
    "model.virtual_adversarial=0.05",
)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif(available_cores() < 2, reason="the program refuses two processes on one core")
def test_several_labels_at_two_world_sizes_and_in_every_file(here: Command, script: Command, workplace: Path) -> None:
    write(workplace / "films.jsonl", marked_films(400))
    done = here("train.py", *EXACT, "trainer=cpu", "run_dir=1")
    assert done.returncode == 0, done.stderr
    assert "classes: alpha, beta, gamma" in done.stdout + done.stderr
    ranks = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    done = script("train.py", *EXACT, *ranks, "run_dir=2", timeout=200)
    assert done.returncode == 0, done.stderr
    assert_same_metrics(workplace / "1", workplace / "2")
    columns = [f"probability_{name}" for name in MARKS]
    for one, two in zip(predictions(workplace / "1"), predictions(workplace / "2"), strict=True):
        assert list(one) == ["index", "label", "tokens", *columns]
        assert one["label"] == two["label"]
        assert [float(one[name]) for name in columns] == pytest.approx([float(two[name]) for name in columns], abs=2e-6)
    labels = {row["label"] for row in predictions(workplace / "1")}
    assert labels >= {"", "0 2"}  # no class, and two

    by_training, ended = json_of(workplace / "1" / "evaluation-test" / "metrics.json"), summary(workplace / "1")
    assert ended["test/accuracy"] == pytest.approx(1, abs=0.1)
    assert by_training["test/f1_micro"] == pytest.approx(1, abs=0.05)
    done = here("evaluate.py", "1", "--output", "again")
    assert done.returncode == 0, done.stderr
    assert "test/f1_micro" in done.stdout
    measured = json_of(workplace / "again" / "metrics.json")
    for name in ("test/loss", "test/accuracy", "test/f1", "test/auroc", "test/f1_micro"):
        assert measured[name] == pytest.approx(by_training[name], abs=1e-5)

    told = [
        json.loads(line)
        for line in here("predict.py", "1", "--", *(text for text, _ in marked_films(6))).stdout.splitlines()
    ]
    for line in told:
        assert list(line["probabilities"]) == list(MARKS)
        assert line["labels"] == [name for name, probability in line["probabilities"].items() if probability > 0.5]
    assert sum(line["labels"] == marks for line, (_, marks) in zip(told, marked_films(6), strict=True)) >= 5
    with (workplace / "again" / "mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    assert all(row["true"] != row["predicted"] for row in mistakes)

    done = here("compare", "1", "2")
    assert done.returncode == 0, done.stderr
    assert "beta, gamma" in done.stdout  # a group of texts by their labels
    assert "The data don't show which" in done.stdout
    refused = here("train.py", *EXACT, "resume=1", "data.labels_per_text=one")
    assert refused.returncode == 2
    assert "data.labels_per_text can't change" in refused.stderr
    done = here("train.py", *EXACT, "trainer=cpu", "run_dir=3", "data.segment_size=150")
    assert done.returncode == 0, done.stderr
