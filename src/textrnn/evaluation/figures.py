"""Figures of groups of predictions: by length, by class, by confidence; intervals and curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textrnn.base.intervals import wilson_interval

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""x and y of a curve's points, in order."""


@dataclass(kw_only=True, slots=True)
class LengthBin:
    """The reviews of similar length."""

    shortest: int
    """Tokens of the shortest review: of the whole review, even if the model reads only a part."""
    longest: int
    """Tokens of the longest."""
    reviews: int
    accuracy: float
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: float
    """Upper end."""


@dataclass(kw_only=True, slots=True)
class ClassFigures:
    """The reviews of one class."""

    name: str
    reviews: int
    accuracy: float
    """Share that is predicted to be of the class: its recall."""
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: float
    """Upper end."""
    precision: float
    """Share of the class among the reviews that are predicted to be of it; 0 without any."""
    f1: float


@dataclass(kw_only=True, slots=True)
class ConfidenceBin:
    """The reviews whose prediction has a similar probability."""

    confidence: float
    """Mean probability of the predicted labels."""
    reviews: int
    accuracy: float


def length_bins(lengths: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_], bins: int) -> list[LengthBin]:
    """Return the accuracy by length, shortest first, of up to `bins` groups of about as many reviews."""
    bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    groups = np.searchsorted(bounds, lengths)
    return [_length_bin(lengths[groups == group], correct[groups == group]) for group in np.unique(groups)]


def _length_bin(lengths: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_]) -> LengthBin:
    accuracy, reviews = float(correct.mean()), len(correct)
    low, high = wilson_interval(accuracy, reviews)
    return LengthBin(
        shortest=int(lengths.min()), longest=int(lengths.max()), reviews=reviews, accuracy=accuracy, low=low, high=high
    )


def confidence_bins(
    confidences: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], number: int
) -> list[ConfidenceBin]:
    """Return the accuracy of predictions by their probability, in the bins of equal width that have predictions."""
    bins = np.digitize(confidences, np.linspace(0, 1, number + 1)[1:-1])
    return [
        ConfidenceBin(
            confidence=float(confidences[bins == place].mean()),
            reviews=int((bins == place).sum()),
            accuracy=float(correct[bins == place].mean()),
        )
        for place in np.unique(bins)
    ]


def most_confused(counts: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return the ids, growing, of the `most` classes with the most mistakes, as label or prediction, in a matrix."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:most])


def mean_curve(curves: Sequence[Curve], points: int) -> Curve:
    """Return the mean height of curves from (0, 0) on at `points` places between 0 and 1."""
    across = np.linspace(0, 1, points)
    up = np.mean([np.interp(across, *curve) for curve in curves], axis=0)
    return np.concatenate(([0.0], across)), np.concatenate(([0.0], up))


def thinned(curve: Curve, points: int = 500) -> Curve:
    """Return at most `points` of a curve's points, both ends among them."""
    x, y = curve
    kept = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return x[kept], y[kept]
