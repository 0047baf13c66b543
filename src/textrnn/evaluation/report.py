"""The folder `evaluation-<split>`: what a run's predictions of a split come to, by `train.py` or by `evaluate.py`."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textrnn.base.files import write_atomically
from textrnn.evaluation.metrics import Measured


def write_evaluation(
    folder: Path,
    measured: Measured,
    *,
    split: str,
    name: str,
    max_length: int,
    mistakes: int,
    text: Callable[[int], str],
) -> None:
    """Write `metrics.json`, `predictions.csv`, `mistakes.csv` and `evaluation.png`, each atomically.

    In `metrics.json` a metric that is no number is null; what a diverged model has right and wrong is left out.

    Args:
        folder: Where; made if it is missing.
        measured: The predictions.
        split: The split's name, which the metrics' names begin with.
        name: The run's name, for the picture's title.
        max_length: Tokens of a review that the model reads at most.
        mistakes: Rows of `mistakes.csv` at most, the most confident first.
        text: Gives a review's text by its row in the split.

    Raises:
        OSError: the folder can't be written.
    """
    from textrnn.evaluation.plots import plot_evaluation

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "metrics.json", json.dumps(_record(measured, split), indent=2, allow_nan=False) + "\n")
    columns = (measured.indices, measured.labels, measured.lengths, measured.probabilities)
    predictions = zip(*(column.tolist() for column in columns), strict=True)
    rows = ([index, label, length, f"{probability:.6g}"] for index, label, length, probability in predictions)
    _write_table(folder / "predictions.csv", ["index", "label", "tokens", "probability"], rows)
    _write_table(folder / "mistakes.csv", MISTAKE_COLUMNS, mistake_rows(measured, mistakes, text))
    title = f"{name} on {split} ({len(measured):,} reviews)"
    plot_evaluation(measured, folder / "evaluation.png", title=title, max_length=max_length)


def _record(measured: Measured, split: str) -> dict[str, Any]:
    metrics = measured.metrics()
    if measured.both_labels and not measured.has_diverged:
        metrics["average_precision"] = measured.average_precision()
    record: dict[str, Any] = {
        f"{split}/{key}": value if math.isfinite(value) else None for key, value in metrics.items()
    }
    record["reviews"] = len(measured)
    if not measured.has_diverged:
        record["confusion_matrix"] = measured.confusion_matrix()
        record["accuracy_by_length"] = [asdict(group) for group in measured.by_length()]
    return record


MISTAKE_COLUMNS = ("index", "label", "probability", "text")


def mistake_rows(measured: Measured, most: int, text: Callable[[int], str]) -> list[list[Any]]:
    """The rows of `mistakes.csv`, under `MISTAKE_COLUMNS`; the probability is that of positive."""
    rows: list[list[Any]] = []
    for place in measured.mistakes(most):
        index, probability = int(measured.indices[place]), float(measured.probabilities[place])
        rows.append([index, int(measured.labels[place]), f"{probability:.4f}", text(index)])
    return rows


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, written.getvalue())
