"""The folder `evaluation-<split>`: metrics of a split's predictions, written by `train.py` and by `evaluate.py`."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from textrnn.base.files import write_atomically
from textrnn.config.schema import LABELS
from textrnn.evaluation.metrics import SplitPredictions


def write_evaluation(
    folder: Path,
    predictions: SplitPredictions,
    *,
    split: str,
    name: str,
    max_length: int,
    mistakes: int,
    text: Callable[[int], str],
) -> None:
    """Write `metrics.json`, `predictions.csv`, `mistakes.csv` and `evaluation.png`, each atomically.

    In `metrics.json` NaN is null. A diverged model has no confusion matrix and no accuracy by length.

    Args:
        folder: The folder, which is made if it is missing.
        predictions: The predictions.
        split: The split's name, the prefix of the metrics' names.
        name: The run's name, for the picture's title.
        max_length: Maximum number of tokens of a review that the model reads.
        mistakes: Maximum number of rows of `mistakes.csv`, the most confident first.
        text: Returns a review's text by its row in the split.

    Raises:
        OSError: the folder can't be written.
    """
    from textrnn.evaluation.plots import plot_evaluation

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "metrics.json", json.dumps(_record(predictions, split), indent=2, allow_nan=False) + "\n")
    by_row = predictions.indices.argsort()
    names, probabilities = _told_probabilities(predictions)
    columns = (predictions.indices, predictions.labels, predictions.lengths, probabilities)
    reviews = zip(*(column[by_row].tolist() for column in columns), strict=True)
    rows = ([index, label, length, *(f"{p:.6g}" for p in told)] for index, label, length, told in reviews)
    _write_table(folder / "predictions.csv", ["index", "label", "tokens", *names], rows)
    table = mistake_table(predictions, mistakes, text)
    _write_table(folder / "mistakes.csv", table.columns, table.rows)
    title = f"{name} on {split} ({len(predictions):,} reviews)"
    plot_evaluation(predictions, folder / "evaluation.png", title=title, max_length=max_length)


def _told_probabilities(predictions: SplitPredictions) -> tuple[list[str], Tensor]:
    """Return the columns of probabilities in `predictions.csv`, each a line: that of class 1 of two, of more each."""
    if len(predictions.classes) == 2:
        return ["probability"], predictions.probabilities[:, 1:]
    return [f"probability_{' '.join(name.split())}" for name in predictions.classes], predictions.probabilities


def _record(predictions: SplitPredictions, split: str) -> dict[str, Any]:
    metrics = predictions.metrics()
    if predictions.curve_classes and not predictions.has_diverged:
        metrics["average_precision"] = predictions.average_precision()
    metrics["calibration_error"] = predictions.calibration_error()
    record: dict[str, Any] = {
        f"{split}/{key}": value if math.isfinite(value) else None for key, value in metrics.items()
    }
    record["reviews"] = len(predictions)
    record["classes"] = list(predictions.classes)
    if not predictions.has_diverged:
        record["confusion_matrix"] = predictions.confusion_matrix()
        record["by_class"] = [asdict(figures) for figures in predictions.by_class()]
        record["accuracy_by_length"] = [asdict(group) for group in predictions.by_length()]
    return record


def read_evaluation(folder: Path, *, split: str, metrics: Mapping[str, float]) -> SplitPredictions | None:
    """Return the predictions in a folder, with probabilities of six digits; None without such a folder.

    None too if they are not those of `metrics`, a run's own: `evaluate.py` may have measured other reviews since.
    """
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        recorded, classes = record[f"{split}/loss"], tuple(record["classes"])
        rows = np.loadtxt(folder / "predictions.csv", delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError, KeyError):
        return None
    loss = metrics.get(f"{'val' if split == 'validation' else split}/loss", math.nan)
    if not math.isclose(math.nan if recorded is None else recorded, loss, rel_tol=1e-3):
        return None
    columns = torch.from_numpy(rows)
    indices, labels, lengths = (columns[:, place].long() for place in range(3))
    logits = columns[:, 3].logit() if len(classes) == 2 else columns[:, 3:].log()
    return SplitPredictions(logits=logits, labels=labels, lengths=lengths, indices=indices, classes=classes)


class MistakeTable(NamedTuple):
    """Content of `mistakes.csv`."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


def mistake_table(predictions: SplitPredictions, most: int, text: Callable[[int], str]) -> MistakeTable:
    """Return the table of mistakes: `probability` is that of the predicted label.

    Of `negative` and `positive` the label is 0 or 1, and the prediction the other one. Other classes have the names of
    both, under `true` and `predicted`.
    """
    confidences, predicted = predictions.confidences, predictions.predicted
    of_sentiment = predictions.classes == LABELS
    rows: list[list[Any]] = []
    for place in predictions.mistakes(most):
        index, label = int(predictions.indices[place]), int(predictions.labels[place])
        names = [predictions.classes[label], predictions.classes[int(predicted[place])]]
        rows.append([index, *([label] if of_sentiment else names), f"{confidences[place]:.4f}", text(index)])
    return MistakeTable(("index", *(["label"] if of_sentiment else ["true", "predicted"]), "probability", "text"), rows)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, written.getvalue())
