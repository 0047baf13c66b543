"""The folder `evaluation-<split>`: metrics of a split's predictions, written by `train.py` and by `evaluate.py`."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textrnn.base.files import write_atomically
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
    columns = (predictions.indices, predictions.labels, predictions.lengths, predictions.probabilities)
    reviews = zip(*(column[by_row].tolist() for column in columns), strict=True)
    rows = ([index, label, length, f"{probability:.6g}"] for index, label, length, probability in reviews)
    _write_table(folder / "predictions.csv", ["index", "label", "tokens", "probability"], rows)
    _write_table(folder / "mistakes.csv", MISTAKE_COLUMNS, mistake_rows(predictions, mistakes, text))
    title = f"{name} on {split} ({len(predictions):,} reviews)"
    plot_evaluation(predictions, folder / "evaluation.png", title=title, max_length=max_length)


def _record(predictions: SplitPredictions, split: str) -> dict[str, Any]:
    metrics = predictions.metrics()
    if predictions.both_labels and not predictions.has_diverged:
        metrics["average_precision"] = predictions.average_precision()
    record: dict[str, Any] = {
        f"{split}/{key}": value if math.isfinite(value) else None for key, value in metrics.items()
    }
    record["reviews"] = len(predictions)
    if not predictions.has_diverged:
        record["confusion_matrix"] = predictions.confusion_matrix()
        record["accuracy_by_length"] = [asdict(group) for group in predictions.by_length()]
    return record


def read_evaluation(folder: Path, *, split: str, metrics: Mapping[str, float]) -> SplitPredictions | None:
    """Return the predictions in a folder, with probabilities of six digits; None without such a folder.

    None too if they are not those of `metrics`, a run's own: `evaluate.py` may have measured other reviews since.
    """
    try:
        recorded = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[f"{split}/loss"]
        rows = np.loadtxt(folder / "predictions.csv", delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError, KeyError):
        return None
    loss = metrics.get(f"{'val' if split == 'validation' else split}/loss", math.nan)
    if not math.isclose(math.nan if recorded is None else recorded, loss, rel_tol=1e-3):
        return None
    columns = torch.from_numpy(rows)
    indices, labels, lengths = (columns[:, place].long() for place in range(3))
    return SplitPredictions(logits=columns[:, 3].logit(), labels=labels, lengths=lengths, indices=indices)


MISTAKE_COLUMNS = ("index", "label", "probability", "text")


def mistake_rows(predictions: SplitPredictions, most: int, text: Callable[[int], str]) -> list[list[Any]]:
    """Return the rows of `mistakes.csv`, under `MISTAKE_COLUMNS`; the probability is that of positive."""
    rows: list[list[Any]] = []
    for place in predictions.mistakes(most):
        index, probability = int(predictions.indices[place]), float(predictions.probabilities[place])
        rows.append([index, int(predictions.labels[place]), f"{probability:.4f}", text(index)])
    return rows


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, written.getvalue())
