"""The folder `evaluation-<split>`: metrics of a split's predictions, written by `train.py` and by `evaluate.py`."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from textrnn.base.files import write_atomically
from textrnn.config.schema import LABELS
from textrnn.evaluation.metrics import LabelSetPredictions, SplitPredictions, predictions_of


def write_evaluation(
    folder: Path,
    predictions: SplitPredictions,
    *,
    split: str,
    name: str,
    max_length: int,
    mistakes: int,
    text: Callable[[int], str],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write `metrics.json`, `predictions.csv`, `mistakes.csv` and two pictures, each atomically.

    All probabilities are the model's own; the error of the calibrated ones is in `metrics.json` and `calibration.png`.
    In `metrics.json` NaN is null. A diverged model has no confusion matrix and no accuracy by length.

    Args:
        folder: The folder, which is made if it is missing.
        predictions: The predictions.
        split: The split's name, the prefix of the metrics' names.
        name: The run's name, for the picture's title.
        max_length: Maximum number of tokens of a review that the model reads.
        mistakes: Maximum number of rows of `mistakes.csv`, the most confident first.
        text: Returns a review's text by its row in the split.
        data: Which reviews these are, if not the run's own.

    Raises:
        OSError: the folder can't be written.
    """
    from textrnn.evaluation.plots import plot_calibration, plot_evaluation

    folder.mkdir(parents=True, exist_ok=True)
    record = _record(predictions, split) | ({} if data is None else {"data": dict(data)})
    write_atomically(folder / "metrics.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    by_row = predictions.indices.argsort()
    names, probabilities = _told_probabilities(predictions)
    columns = (predictions.indices, predictions.labels, predictions.lengths, probabilities)
    reviews = zip(*(column[by_row].tolist() for column in columns), strict=True)
    rows = ([index, _told_label(label), length, *(f"{p:.6g}" for p in told)] for index, label, length, told in reviews)
    _write_table(folder / "predictions.csv", ["index", "label", "tokens", *names], rows)
    table = mistake_table(predictions, mistakes, text)
    _write_table(folder / "mistakes.csv", table.columns, table.rows)
    title = f"{name} on {split} ({len(predictions):,} reviews)"
    plot_evaluation(predictions, folder / "evaluation.png", title=title, max_length=max_length)
    plot_calibration(predictions, folder / "calibration.png", title=title)


def write_members(folder: Path, members: Mapping[str, SplitPredictions], *, split: str) -> None:
    """Write `runs.csv`: the metrics of each run of an ensemble, by name.

    Raises:
        OSError: the folder can't be written.
    """
    metrics = {name: predictions.metrics() for name, predictions in members.items()}
    columns = [f"{split}/{key}" for key in next(iter(metrics.values()))]
    rows = ([name, *(f"{value:.6g}" for value in values.values())] for name, values in metrics.items())
    _write_table(folder / "runs.csv", ["run", *columns], rows)


def _told_probabilities(predictions: SplitPredictions) -> tuple[list[str], Tensor]:
    """Return the columns of probabilities in `predictions.csv`, each a line: that of class 1 of two, of more each."""
    if len(predictions.classes) == 2 and not isinstance(predictions, LabelSetPredictions):
        return ["probability"], predictions.probabilities[:, 1:]
    return [f"probability_{' '.join(name.split())}" for name in predictions.classes], predictions.probabilities


def _told_label(label: int | list[int]) -> int | str:
    """Return a label's cell in `predictions.csv`: the class id, or with several labels a review the ids of all."""
    return label if isinstance(label, int) else " ".join(str(number) for number, has in enumerate(label) if has)


def _read_label(cell: str, classes: int | None) -> int | list[int]:
    if classes is None:
        return int(cell)
    found = {int(number) for number in cell.split()}
    return [int(number in found) for number in range(classes)]


def _record(predictions: SplitPredictions, split: str) -> dict[str, Any]:
    metrics = predictions.metrics()
    if predictions.curve_classes and not predictions.has_diverged:
        metrics["average_precision"] = predictions.average_precision()
    metrics["calibration_error"] = predictions.calibration_error()
    if predictions.temperature is not None:
        metrics["calibration_error_scaled"] = predictions.calibrated().calibration_error()
    record: dict[str, Any] = {
        f"{split}/{key}": value if math.isfinite(value) else None for key, value in metrics.items()
    }
    if isinstance(predictions, LabelSetPredictions):
        record[f"{split}/f1_micro"] = None if predictions.has_diverged else predictions.f1_micro()
        record["labels_per_text"] = "many"
    if predictions.temperature is not None:
        record["temperature"] = predictions.temperature
    record["reviews"] = len(predictions)
    record["classes"] = list(predictions.classes)
    if not predictions.has_diverged:
        if not isinstance(predictions, LabelSetPredictions):
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
        many = len(classes) if record.get("labels_per_text") == "many" else None
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file)
        indices, lengths = (torch.tensor([int(row[place]) for row in rows]) for place in (0, 2))
        labels = torch.tensor([_read_label(row[1], many) for row in rows])
        probabilities = torch.tensor([[float(cell) for cell in row[3:]] for row in rows], dtype=torch.float64)
    except (OSError, ValueError, KeyError):
        return None
    loss = metrics.get(f"{'val' if split == 'validation' else split}/loss", math.nan)
    if not math.isclose(math.nan if recorded is None else recorded, loss, rel_tol=1e-3):
        return None
    if many is None:
        logits = probabilities[:, 0].logit() if len(classes) == 2 else probabilities.log()
    else:
        logits = probabilities.logit()
    read = predictions_of(logits=logits, labels=labels, lengths=lengths, indices=indices, classes=classes)
    read.temperature = record.get("temperature")
    return read


class MistakeTable(NamedTuple):
    """Content of `mistakes.csv`."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


def mistake_table(predictions: SplitPredictions, most: int, text: Callable[[int], str]) -> MistakeTable:
    """Return the table of mistakes: `probability` is that of the predicted label.

    Of `negative` and `positive` the label is 0 or 1, and the prediction the other one. Other classes have the names of
    both, under `true` and `predicted`: with several labels a review all of them, and `probability` is that of the set.
    """
    confidences = predictions.confidences
    of_sentiment = predictions.classes == LABELS and not isinstance(predictions, LabelSetPredictions)
    rows: list[list[Any]] = []
    for place in predictions.mistakes(most):
        index = int(predictions.indices[place])
        names = [", ".join(names) for names in (predictions.true_names(place), predictions.predicted_names(place))]
        told: list[Any] = [int(predictions.labels[place])] if of_sentiment else names
        rows.append([index, *told, f"{confidences[place]:.4f}", text(index)])
    return MistakeTable(("index", *(["label"] if of_sentiment else ["true", "predicted"]), "probability", "text"), rows)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, written.getvalue())
