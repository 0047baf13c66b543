"""Training, evaluation and prediction read the same reviews in the same way, so they come to the same numbers."""

import json
from pathlib import Path

import pytest
from doubles.review_files import reviews, write
from doubles.run_files import SMALL, json_of, only_store, predictions, summary
from support import Command

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
    assert probabilities(told.stdout) == pytest.approx(trained, abs=2e-5)


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


def test_other_reviews_than_the_runs_are_refused(here: Command, workplace: Path) -> None:
    write(workplace / "mine.csv", reviews(200))
    write(workplace / "other.csv", [(f"another word {text}", label) for text, label in reviews(150)])
    small = [typed for typed in SMALL if not typed.startswith("data=") and "synthetic" not in typed]
    done = here("train.py", "data.path=mine.csv", *small, "trainer.max_epochs=1", "run_dir=run")
    assert done.returncode == 0, done.stderr
    refused = here("evaluate.py", "run", "--data-path", "other.csv")
    assert refused.returncode == 2
    assert "not the data that the run was trained on" in refused.stderr
