"""Curves of a run's metrics for a page: few points, with every extreme of what is left out."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from textrnn.tracking.metrics_csv import METRICS, Row

MOST_POINTS = 1000
"""Points of a curve on a page of few runs."""
ALL_POINTS = 60_000
"""Points of a metric's curves together, so that a page of hundreds of runs stays quick."""
FEWEST_POINTS = 60

Curve = tuple[list[int], list[float | None]]
"""Steps and values; None is NaN or infinite, which JSON lacks."""


def points_for(runs: int) -> int:
    """Return the maximum number of points of a curve on a page of so many runs."""
    return max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(runs, 1)))


def curves_of(rows: Sequence[Row], points: int | None = None) -> dict[str, Curve]:
    """Return the curve of each metric in rows of `metrics.csv`, thinned to about `points`."""
    logged: dict[str, list[tuple[int, float]]] = {name: [] for name in METRICS}
    for row in rows:
        step = int(row["step"])
        for name, value in row.items():
            if name in logged:
                logged[name].append((step, value))
    found: dict[str, Curve] = {}
    for name, pairs in logged.items():
        if points is not None and len(pairs) > points:
            pairs = [pairs[place] for place in thinned([value for _, value in pairs], points)]
        if pairs:
            found[name] = [step for step, _ in pairs], [shortened(value) for _, value in pairs]
    return found


def thinned(values: Sequence[float], points: int) -> list[int]:
    """Return the places of about `points` values: the first, the last, and of each stretch the least and the greatest.

    A stretch also keeps its first value that is not finite, so that a divergence stays visible.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    low, high = np.where(finite, numbers, np.inf), np.where(finite, numbers, -np.inf)
    kept = {0, len(numbers) - 1}
    edges = np.linspace(0, len(numbers), max(points // 2, 1) + 1).astype(int).tolist()
    for start, end in itertools.pairwise(edges):
        kept |= {start + int(low[start:end].argmin()), start + int(high[start:end].argmax())}
        if not finite[start:end].all():
            kept.add(start + int(finite[start:end].argmin()))
    return sorted(kept)


def shortened(value: float) -> float | None:
    """Return a number with six digits, or None if it isn't finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
