"""Predictions of runs, read from `evaluation-<split>`, and whether they are of the same reviews."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textrnn.base.errors import InputError

LIKELY = 0.5
"""Probability above which a review has a label, where it may have several."""
ALIKE = 0.9
"""Least correlation of the same reviews' token counts by two tokenizers."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """A run's predictions on a split, in the order of the reviews' rows."""

    folder: Path
    classes: tuple[str, ...]
    indices: Integers
    """(reviews,), rows in the split."""
    labels: Integers
    """(reviews,), class ids; where a review may have several labels (reviews, classes), 0 or 1."""
    lengths: Integers
    """(reviews,), tokens."""
    probabilities: npt.NDArray[np.float64]
    """(reviews, classes)."""

    @property
    def predicted(self) -> Integers:
        """The predicted labels in the form of `labels`; of two equally probable classes the first."""
        likely = self.probabilities > LIKELY if self.labels.ndim == 2 else self.probabilities.argmax(axis=1)
        predicted: Integers = likely.astype(np.int64)
        return predicted

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(reviews,), whether each is predicted to have its label or, of several, exactly its labels."""
        return _of_review(self.predicted == self.labels)

    @property
    def of_label(self) -> npt.NDArray[np.float64]:
        """(reviews,), the probability of each review's label; of several, the product over all classes."""
        if self.labels.ndim == 2:
            product: npt.NDArray[np.float64] = np.where(self.labels, self.probabilities, 1 - self.probabilities).prod(1)
            return product
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    def label_sets(self) -> tuple[Integers, tuple[str, ...]]:
        """Return what each review's labels are, (reviews,), as the place of their name: a class, or several."""
        if self.labels.ndim == 1:
            return self.labels, self.classes
        sets, places = np.unique(self.labels, axis=0, return_inverse=True)
        names = (", ".join(name for name, has in zip(self.classes, row, strict=True) if has) for row in sets)
        return places.reshape(-1), tuple(name or "no label" for name in names)

    @property
    def has_diverged(self) -> bool:
        """Whether a probability is NaN."""
        return bool(np.isnan(self.probabilities).any())


def read_predictions(folder: Path) -> Predictions:
    """Read `metrics.json` and `predictions.csv` in the folder of an evaluation.

    Raises:
        FileNotFoundError: one of the files is missing.
        InputError: one of the files is damaged.
    """
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        classes = tuple(record["classes"])
        many = record.get("labels_per_text") == "many"
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file))
            rows, sets = _several(file, len(classes)) if many else (np.loadtxt(file, delimiter=",", ndmin=2), None)
        shown = 1 if len(classes) == 2 and not many else len(classes)
        if columns[:3] != ["index", "label", "tokens"] or rows.shape[1] != len(columns) or len(columns) != 3 + shown:
            raise ValueError(f"columns {', '.join(columns)}")
        if len(rows) < 2:
            raise InputError(f"{folder}: it holds predictions of fewer than two reviews, from which nothing follows.")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        what = str(error) or type(error).__name__
        raise InputError(f"{folder}: its predictions can't be read ({what}); measure the run again.") from error
    indices, labels, lengths = (rows[:, place].astype(np.int64) for place in range(3))
    told = rows[:, 3:]
    return Predictions(
        folder=folder,
        classes=classes,
        indices=indices,
        labels=labels if sets is None else sets,
        lengths=lengths,
        probabilities=np.hstack((1 - told, told)) if shown == 1 else told,
    )


def _several(file: Iterable[str], classes: int) -> tuple[npt.NDArray[np.float64], Integers]:
    """Return the rows of a table, with 0 for the labels, and the labels, (reviews, classes): from "" or "0 2"."""
    lines = [(index, 0, *others, labels) for index, labels, *others in csv.reader(file)]
    labels = np.zeros((len(lines), classes), dtype=np.int64)
    for row, line in zip(labels, lines, strict=True):
        row[[int(label) for label in str(line[-1]).split()]] = 1
    return np.array([line[:-1] for line in lines], dtype=np.float64), labels


def _of_review(equal: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return whether all of a review's labels are equal, (reviews,), of (reviews,) or (reviews, classes)."""
    of_review: npt.NDArray[np.bool_] = np.logical_and.reduce(equal.reshape(len(equal), -1), axis=1)
    return of_review


def check_same_reviews(predictions: Sequence[Predictions]) -> None:
    """Check that all predictions are of the same reviews as the first.

    Rows, labels and token counts are compared. Another tokenizer has other counts, which go together with the first's.

    Raises:
        InputError: for other reviews; it says what differs.
    """
    if (sentence := other_reviews(predictions)) is not None:
        raise InputError(f"{sentence}; compare runs that were measured on the same data.")


def other_reviews(predictions: Sequence[Predictions]) -> str | None:
    """Return what is wrong if predictions are not of the same reviews as the first."""
    first, *others = predictions
    for other in others:
        if (differing := _difference(first, other)) is not None:
            return f"{first.folder} and {other.folder} are not of the same reviews: {differing}"
    return None


def _difference(first: Predictions, other: Predictions) -> str | None:
    if first.classes != other.classes:
        return f"their classes are {', '.join(first.classes)} and {', '.join(other.classes)}"
    if len(first.indices) != len(other.indices):
        return f"there are {len(first.indices):,} and {len(other.indices):,}"
    for name, here, there in (("rows", first.indices, other.indices), ("labels", first.labels, other.labels)):
        if (apart := int((~_of_review(here == there)).sum())) > 0:
            return f"their {name} differ in {apart:,} of {len(here):,}"
    if np.array_equal(first.lengths, other.lengths):
        return None
    if first.lengths.std() == 0 or other.lengths.std() == 0:
        return "their lengths differ"
    alike = float(np.corrcoef(first.lengths, other.lengths)[0, 1])
    return None if alike >= ALIKE else f"the correlation of their lengths in tokens is {alike:.2f}"
