"""A run's evaluations for a page: figures, confusion matrix, reliability and mistakes, from `evaluation-<split>/`."""

import csv
import functools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from textrnn.base.errors import InputError

BINS = 15
"""Bins of equal width by the predicted label's probability, as of the calibration error in metrics.json."""
MATRIX = 30
"""Classes of a confusion matrix; of more, those with the most mistakes."""
MISTAKES = 50
"""Mistakes of an evaluation, the most confident first."""
CHARACTERS = 4000
"""Of a mistake's text; a longer one is cut, and says so."""

FILES = ("metrics.json", "predictions.csv", "mistakes.csv")
Stamp = tuple[int, int] | None


def evaluations(run: Path) -> Iterator[dict[str, Any]]:
    """Yield what a run's evaluations hold, the test first.

    Raises:
        InputError: a file of an evaluation is damaged.
    """
    for folder in sorted(run.glob("evaluation-*"), key=lambda path: (path.name != "evaluation-test", path.name)):
        if (folder / "metrics.json").is_file():
            try:
                yield _evaluation(folder, tuple(stamp_of(folder / name) for name in FILES))
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                raise InputError(f"{folder} can't be read ({type(error).__name__}: {error}).") from error


def stamp_of(path: Path) -> Stamp:
    """Return a file's time and size, which change when it is written; None without the file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=256)  # a live page reads them again and again
def _evaluation(folder: Path, stamps: tuple[Stamp, ...]) -> dict[str, Any]:
    del stamps  # a part of the cache's key
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    classes = [str(name) for name in record["classes"]]
    figures = {name: value for name, value in record.items() if "/" in name and not isinstance(value, list | dict)}
    found: dict[str, Any] = {
        "split": folder.name.removeprefix("evaluation-"),
        "figures": {name.partition("/")[2]: value for name, value in figures.items()},
        "reviews": record["reviews"],
        "confusion": _confusion(classes, record.get("confusion_matrix")),
        "reliability": None,
        "mistakes": [],
    }
    if (folder / "predictions.csv").is_file():
        found["reliability"] = _reliability(folder / "predictions.csv", len(classes))
    if (folder / "mistakes.csv").is_file():
        found["mistakes"] = _mistakes(folder / "mistakes.csv", classes)
    return found


def _confusion(classes: list[str], matrix: list[list[int]] | None) -> dict[str, Any] | None:
    """Return the matrix with its classes: rows are labels, columns are predictions; None without one."""
    if matrix is None or np.asarray(matrix).shape != (len(classes), len(classes)):
        return None
    counts = np.asarray(matrix)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = sorted(np.argsort(-wrong, kind="stable")[:MATRIX].tolist())
    return {
        "classes": [classes[place] for place in shown],
        "matrix": counts[np.ix_(shown, shown)].tolist(),
        "totals": counts.sum(axis=1)[shown].tolist(),
        "left_out": len(classes) - len(shown),
    }


def _reliability(path: Path, classes: int) -> list[dict[str, float]] | None:
    """Return the bins of the reliability diagram; None of a model that has diverged or has other columns."""
    with path.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
        expected = 1 if classes == 2 else classes
        if columns[:3] != ["index", "label", "tokens"] or len(columns) != 3 + expected:
            return None
        try:
            table = np.loadtxt(file, delimiter=",", ndmin=2)
        except ValueError:  # a column of several labels, which has no one probability of its prediction
            return None
    labels, told = table[:, 1], table[:, 3:]
    probabilities = np.column_stack((1 - told, told)) if classes == 2 else told
    if not np.isfinite(probabilities).all():
        return None
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.digitize(confidences, np.linspace(0, 1, BINS + 1)[1:-1])
    return [
        {
            "confidence": round(float(confidences[bins == number].mean()), 5),
            "accuracy": round(float(correct[bins == number].mean()), 5),
            "reviews": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]


def _mistakes(path: Path, classes: list[str]) -> list[dict[str, Any]]:
    return [_mistake(row, classes) for row in mistake_rows(path, MISTAKES)]


def mistake_rows(path: Path, most: int) -> list[dict[str, str]]:
    """Return the first rows of a `mistakes.csv`.

    Raises:
        OSError: it can't be read.
    """
    csv.field_size_limit(sys.maxsize)  # 131,072 characters otherwise
    with path.open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), most))


def labels_of(row: Mapping[str, str], classes: Sequence[str]) -> tuple[str, str]:
    """Return the true and the predicted label of a row of `mistakes.csv`, by name."""
    if "label" in row:  # of negative and positive
        label = int(row["label"])
        return classes[label], classes[1 - label]
    return row["true"], row["predicted"]


def _mistake(row: Mapping[str, str], classes: list[str]) -> dict[str, Any]:
    names = labels_of(row, classes)
    probability, text = float(row.get("probability") or math.nan), row["text"]
    return {
        "index": row["index"],
        "label": names[0],
        "predicted": names[1],
        "probability": probability if math.isfinite(probability) else None,
        "text": text[:CHARACTERS],
        "cut": len(text) > CHARACTERS,
    }
