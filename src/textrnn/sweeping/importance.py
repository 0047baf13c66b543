"""Importance of a search's parameters: how much of the metric's order each one explains, and how much chance would."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FEWEST = 8
"""Runs below which nothing is said."""
GROUPS = 4
"""Groups of equal size into which a numeric parameter's values are put; fewer values are groups of their own."""
SHUFFLES = 200
CHANCE = 0.95

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """One parameter's importance."""

    name: str
    share: float
    """Share of the variance of the metric's ranks that lies between groups of the parameter's values, 0 to 1: the
    squared correlation ratio (Fisher 1925) of ranks."""
    chance: float
    """The share that 95 % of 200 random orders of the metric stay below."""
    correlation: float | None
    """Spearman's rank correlation of a numeric parameter and the metric, -1 to 1; None for other values."""


def importances(
    settings: Sequence[Mapping[str, Any]], metric: Sequence[float], names: Sequence[str]
) -> list[Importance]:
    """Return the importance of each parameter that has several values, the largest first.

    Numeric parameters are cut into four groups, so that a best value in the middle is found too, which a correlation
    misses. Each parameter is judged alone: two that matter only together look unimportant. Empty for fewer than eight
    runs, and if all have the same value of the metric.

    Args:
        settings: Parameters of each run; one that a run lacks is a value of its own.
        metric: Finite value of the metric of each run.
        names: Names of the parameters.
    """
    if len(metric) < FEWEST or len(set(metric)) < 2:
        return []
    ranks = ranked(np.asarray(metric, dtype=np.float64))
    random = np.random.default_rng(0)
    shuffled = np.stack([random.permutation(ranks) for _ in range(SHUFFLES)])
    found = []
    for name in names:
        values = [setting.get(name) for setting in settings]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        numbers = np.asarray(values, dtype=np.float64) if numeric else None
        groups = grouped(values, numbers)
        if len(np.unique(groups)) < 2:
            continue
        chance = float(np.quantile(explained_share(groups, shuffled), CHANCE))
        correlation = None if numbers is None else float(np.corrcoef(ranked(numbers), ranks)[0, 1])
        share = float(explained_share(groups, ranks[None])[0])
        found.append(Importance(name=name, share=share, chance=chance, correlation=correlation))
    return sorted(found, key=lambda importance: -importance.share)


def ranked(values: Numbers) -> Numbers:
    """Return the ranks of values, (runs,), from 1; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Numbers = (last - (counts - 1) / 2)[places]
    return means


def grouped(values: Sequence[Any], numbers: Numbers | None) -> npt.NDArray[np.int64]:
    """Return each run's group, (runs,): one per value, or quarters by rank of numbers that have more values."""
    if numbers is not None and len(np.unique(numbers)) > GROUPS:
        return np.minimum((ranked(numbers) - 0.5) * GROUPS / len(numbers), GROUPS - 1).astype(np.int64)
    texts = [repr(value) for value in values] if numbers is None else numbers
    return np.unique(np.asarray(texts), return_inverse=True)[1].astype(np.int64)


def explained_share(groups: npt.NDArray[np.int64], ranks: Numbers) -> Numbers:
    """Return the share of variance between groups for each row of ranks, (rows, runs)."""
    belongs = (groups[:, None] == np.unique(groups)).astype(np.float64)
    sizes = belongs.sum(axis=0)
    centered = ranks - ranks.mean(axis=1, keepdims=True)
    between: Numbers = ((centered @ belongs) ** 2 / sizes).sum(axis=1) / (centered**2).sum(axis=1)
    return between
