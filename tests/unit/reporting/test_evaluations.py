import csv
import json
from pathlib import Path

import numpy as np
import pytest
from doubles.report_runs import make_evaluation

from textrnn.base.errors import InputError
from textrnn.evaluation.metrics import CONFIDENCE_BINS
from textrnn.reporting.evaluations import BINS, CHARACTERS, MATRIX, evaluations

THREE = ("<b>dull</b>", "fair", "fine")


def made(run: Path, classes: tuple[str, ...], **more: object) -> Path:
    run.mkdir()
    texts = [str(text) for text in more.get("texts", ())]  # type: ignore[attr-defined]
    make_evaluation(run / "evaluation-test", np.random.default_rng(0), 0.8, classes, texts=texts)
    return run / "evaluation-test"


@pytest.mark.parametrize("classes", [("negative", "positive"), THREE], ids=["two", "three"])
def test_reliability_is_that_of_the_predictions(classes: tuple[str, ...], tmp_path: Path) -> None:
    assert BINS == CONFIDENCE_BINS
    made(tmp_path / "run", classes)
    (found,) = evaluations(tmp_path / "run")
    assert found["split"] == "test"
    bins = found["reliability"]
    assert sum(one["reviews"] for one in bins) == found["reviews"] == 2000
    accuracy = sum(one["reviews"] * one["accuracy"] for one in bins) / 2000
    assert accuracy == pytest.approx(found["figures"]["accuracy"], abs=1e-4)
    assert all(one["confidence"] >= 1 / len(classes) for one in bins)
    matrix = np.array(found["confusion"]["matrix"])
    assert matrix.trace() / 2000 == pytest.approx(found["figures"]["accuracy"])


def test_mistakes_name_label_and_prediction(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", ("negative", "positive"), texts=["x" * (CHARACTERS + 1)])
    with (folder / "mistakes.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    mistake = next(evaluations(tmp_path / "run"))["mistakes"][0]
    assert mistake["label"] == ("negative", "positive")[int(first["label"])] != mistake["predicted"]
    assert (len(mistake["text"]), mistake["cut"]) == (CHARACTERS, True)
    made(tmp_path / "three", THREE)
    mistake = next(evaluations(tmp_path / "three"))["mistakes"][0]
    assert {mistake["label"], mistake["predicted"]} <= set(THREE)


def test_a_diverged_model_and_many_classes(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", tuple(f"class {number}" for number in range(40)))
    confusion = next(evaluations(tmp_path / "run"))["confusion"]
    assert (len(confusion["classes"]), confusion["left_out"]) == (MATRIX, 10)
    record = json.loads((folder / "metrics.json").read_text())
    del record["confusion_matrix"]
    (folder / "metrics.json").write_text(json.dumps(record | {"test/loss": None}))
    lines = (folder / "predictions.csv").read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:3], *["nan"] * 40])
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    found = next(evaluations(tmp_path / "run"))
    assert (found["confusion"], found["reliability"], found["figures"]["loss"]) == (None, None, None)


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", THREE)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(InputError, match="evaluation-test can't be read"):
        list(evaluations(tmp_path / "run"))
