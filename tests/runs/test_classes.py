"""Runs of more than two classes, whose word counts say nothing: from a csv to predictions."""

import csv
import json
import random
from pathlib import Path

import pytest
from doubles.review_files import write
from doubles.run_files import assert_same_metrics, json_of, predictions, summary
from support import Command

from textrnn.base.process import available_cores

CLASSES = ["Business", "Sci, Tech", "Sports", "[b]World[/b]"]
MARKS = ("alpha", "beta", "gamma", "delta")
EXACT = (
    *("data.path=news.csv", "data.max_length=40", "data.batch_size=50", "tracking=none"),
    *("trainer.precision=64-true", "trainer.max_epochs=1", "optimizer.lr=0.02"),
    *("model.hidden_size=8", "model.embedding.size=8", "model.word_dropout=0", "model.embedding_dropout=0"),
    *("model.output_dropout=0", "model.adversarial=0.3", "model.label_smoothing=0.1", "trainer.log_every_n_steps=1"),
)


def news(count: int) -> list[tuple[str, str]]:
    """Texts with all marks in any order, of which the first one is that of the class."""
    drawn = random.Random(0)
    rows = []
    for number in range(count):
        words = [drawn.choice(("a", "film", "of", "it")) for _ in range(drawn.randint(3, 12))]
        places = sorted(drawn.sample(range(len(words) + 1), 2))
        marks = drawn.sample(MARKS, 4)
        words[places[1] : places[1]] = marks[2:]
        words[places[0] : places[0]] = marks[:2]
        rows.append((f"{' '.join(words)} {number}", CLASSES[MARKS.index(marks[0])]))
    return rows


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif(available_cores() < 2, reason="the program refuses two processes on one core")
def test_four_classes_at_two_world_sizes_and_in_every_file(here: Command, script: Command, workplace: Path) -> None:
    write(workplace / "news.csv", news(400))
    done = here("train.py", *EXACT, "trainer=cpu", "run_dir=1")
    assert done.returncode == 0, done.stderr
    ranks = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    done = script("train.py", *EXACT, *ranks, "run_dir=2", timeout=200)
    assert done.returncode == 0, done.stderr
    assert_same_metrics(workplace / "1", workplace / "2")
    for one, two in zip(predictions(workplace / "1"), predictions(workplace / "2"), strict=True):
        columns = [f"probability_{name}" for name in CLASSES]
        assert list(one) == ["index", "label", "tokens", *columns]
        assert [float(one[name]) for name in columns] == pytest.approx([float(two[name]) for name in columns], abs=2e-6)
        assert sum(float(one[name]) for name in columns) == pytest.approx(1, abs=1e-5)
    assert json_of(workplace / "1" / "run.json")["classes"] == CLASSES

    by_training, ended = json_of(workplace / "1" / "evaluation-test" / "metrics.json"), summary(workplace / "1")
    done = here("evaluate.py", "1", "--output", "again")
    assert done.returncode == 0, done.stderr
    measured = json_of(workplace / "again" / "metrics.json")
    assert measured["classes"] == by_training["classes"] == CLASSES
    assert measured["confusion_matrix"] == by_training["confusion_matrix"]
    for name in ("test/loss", "test/accuracy", "test/f1", "test/auroc"):
        assert measured[name] == pytest.approx(ended[name], abs=1e-5)
    assert all(name in done.stdout for name in CLASSES)
    with (workplace / "again" / "mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    assert list(mistakes[0]) == ["index", "true", "predicted", "probability", "text"]
    told = here("predict.py", "1", "--", *(row["text"] for row in mistakes[:3]))
    by_index = {row["index"]: row for row in predictions(workplace / "1")}
    temperature = by_training.get("temperature", 1.0)
    assert isinstance(temperature, float)
    for line, row in zip(map(json.loads, told.stdout.splitlines()), mistakes, strict=False):
        assert list(line["probabilities"]) == CLASSES
        assert line["label"] == row["predicted"] != row["true"]
        own = {name: float(by_index[row["index"]][f"probability_{name}"]) for name in CLASSES}
        assert own[line["label"]] == pytest.approx(float(row["probability"]), abs=1e-4)
        scaled = {name: share ** (1 / temperature) for name, share in own.items()}
        expected = {name: share / sum(scaled.values()) for name, share in scaled.items()}
        assert line["probabilities"] == pytest.approx(expected, abs=1e-4)

    write(workplace / "other.csv", [(text, "spam" if name == CLASSES[0] else name) for text, name in news(400)])
    refused = here("evaluate.py", "1", "--data-path", "other.csv")
    assert refused.returncode == 2
    assert "has the label 'spam' in column 'label', and the run's classes are " in refused.stderr
    assert "data." not in refused.stderr.splitlines()[-1]
