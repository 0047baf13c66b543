"""Training, evaluation and prediction read the same reviews in the same way, so they come to the same numbers."""

import csv
import json
from pathlib import Path

import pytest
from doubles.review_files import reviews, write
from doubles.run_files import SMALL, json_of, only_store, predictions, summary
from support import Command

from textrnn import load

pytestmark = pytest.mark.usefixtures("undrawn")


def probabilities(told: str) -> list[float]:
    """What predict.py has printed."""
    return [json.loads(line)["probabilities"]["positive"] for line in told.splitlines()]


@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_all_three_read_the_same_end(
    here: Command, workplace: Path, environment: dict[str, str], truncate: str
) -> None:
    cut = ("data.max_length=9", f"data.truncate={truncate}", "trainer.max_epochs=1", "optimizer.lr=0.05")
    done = here("train.py", *SMALL, *cut, "run_dir=run")
    assert done.returncode == 0, done.stderr
    trained = [float(row["probability"]) for row in predictions(workplace / "run")]
    assert len(set(trained)) > 10
    done = here("evaluate.py", "run", "--output", "again/evaluation-test")
    assert done.returncode == 0, done.stderr
    assert [float(row["probability"]) for row in predictions(workplace / "again")] == pytest.approx(trained, abs=1e-5)
    split = only_store(environment).split("test")
    (workplace / "reviews.txt").write_text("\n".join(split.text(row) for row in range(len(split))) + "\n")
    told = here("predict.py", "run", "--file", "reviews.txt")
    temperature = json_of(workplace / "run" / "evaluation-test" / "metrics.json").get("temperature", 1.0)
    assert isinstance(temperature, float)
    calibrated = [1 / (1 + (1 / share - 1) ** (1 / temperature)) for share in trained]
    assert probabilities(told.stdout) == pytest.approx(calibrated, abs=2e-5)


def test_neither_batches_nor_company_change_a_review(here: Command, workplace: Path) -> None:
    limit = ("data.eval_batch_size=32", "trainer.limit_test_batches=1")
    done = here("train.py", *SMALL, "optimizer.lr=0.05", *limit, "run_dir=run")
    assert done.returncode == 0, done.stderr
    ended, recorded = summary(workplace / "run"), json_of(workplace / "run" / "evaluation-test" / "metrics.json")
    assert recorded["reviews"] == 32
    for name in ("test/loss", "test/accuracy", "test/f1"):
        assert recorded[name] == pytest.approx(ended[name], abs=1e-5)
    for size in ("7", "256"):
        assert here("evaluate.py", "run", "--batch-size", size, "--output", size).returncode == 0
    one, other = (json_of(workplace / size / "metrics.json") for size in ("7", "256"))
    assert one["test/loss"] == pytest.approx(other["test/loss"], abs=1e-6)
    assert one["confusion_matrix"] == other["confusion_matrix"]
    texts = [" ".join(["word"] * count) for count in (1, 40, 5)]
    alone = [probabilities(here("predict.py", "run", text).stdout)[0] for text in texts]
    assert probabilities(here("predict.py", "run", *texts).stdout) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 3


def test_other_reviews_than_the_runs_are_measured_as_such(
    here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    write(workplace / "mine.csv", reviews(200))
    write(workplace / "other.csv", [(f"another word {text}", label) for text, label in reviews(150)])
    small = [typed for typed in SMALL if not typed.startswith("data=") and "synthetic" not in typed]
    done = here("train.py", "data.path=mine.csv", *small, "trainer.max_epochs=1", "run_dir=run")
    assert done.returncode == 0, done.stderr
    own = (workplace / "run" / "evaluation-test" / "metrics.json").read_bytes()
    measured = here("evaluate.py", "run", "--data-path", "other.csv")
    assert measured.returncode == 0, measured.stderr
    assert "--data-path other.csv: its reviews are not the run's, so they are measured as other data" in measured.stderr
    assert "other/accuracy" in measured.stdout
    record = json_of(workplace / "run" / "evaluation-other" / "metrics.json")
    assert record["reviews"] == 150
    assert not [name for name in record if name.startswith("test/")]
    data = record["data"]
    assert isinstance(data, dict)
    assert (data["path"], data["split"], data["reviews"]) == (str(workplace / "other.csv"), None, 150)
    told = here("predict.py", "run", "--file", "other.csv", "--output", "labeled.csv", "--probabilities")
    assert told.returncode == 0, told.stderr
    with (workplace / "labeled.csv").open(newline="") as file:
        labeled = list(csv.DictReader(file))
    right = [row["predicted_label"] == ("negative", "positive")[int(row["label"])] for row in labeled]
    assert record["other/accuracy"] == pytest.approx(sum(right) / 150, abs=1e-6)
    measured_one = [float(row["probability"]) for row in predictions(workplace / "run", "other")]
    one = [float(row["predicted_probability_positive"]) for row in labeled]
    temperature = load(workplace / "run").temperature
    assert temperature != 1
    calibrated = [1 / (1 + (1 / p - 1) ** (1 / temperature)) for p in measured_one]
    assert one == pytest.approx(calibrated, abs=5e-6 / temperature)

    moved = workplace / "elsewhere" / "mine.csv"
    moved.parent.mkdir()
    (workplace / "mine.csv").rename(moved)
    again = here("evaluate.py", "run", "--data-path", "elsewhere/mine.csv", "--output", "again/evaluation-test")
    assert again.returncode == 0, again.stderr
    assert (
        json_of(workplace / "again" / "evaluation-test" / "metrics.json")["confusion_matrix"]
        == json.loads(own)["confusion_matrix"]
    )
    assert (workplace / "run" / "evaluation-test" / "metrics.json").read_bytes() == own
    assert only_store(environment), "no other store is made"
    for typed, told_of in (
        (("--output", "run/evaluation-test"), "that name is for the run's own reviews"),
        (("--text-column", "words"), "other.csv has no column 'words' (columns: text, label); type --text-column NAME"),
    ):
        refused = here("evaluate.py", "run", "--data-path", "other.csv", *typed)
        assert (refused.returncode, refused.stderr.count("error: ")) == (2, 1)
        assert told_of in refused.stderr
    assert "type --data-path FILE too" in here("evaluate.py", "run", "--label-column", "stars").stderr
