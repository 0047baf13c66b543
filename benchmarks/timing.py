"""Paired repeats: every repeat measures each variant once, so that a slow machine slows all of them.

Ratios are taken within a repeat, and their median over the repeats is reported. The order of the variants is rotated,
so that none always runs first.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

Measure = Callable[[int], float]
"""Measures a variant once; takes the number of the repeat, from 0."""


def paired(variants: Mapping[str, Measure], repeats: int) -> dict[str, list[float]]:
    """Measure all variants `repeats` times, interleaved.

    Returns:
        The values of each variant, one a repeat.
    """
    names = list(variants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(variants[name](repeat))
    return values


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return `values` as multiples of `others`, repeat by repeat."""
    return [value / other for value, other in zip(values, others, strict=True)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, smallest and largest."""
    return statistics.median(values), min(values), max(values)


ABOVE_LIMIT, WIDE_SPREAD = 1.05, 1.5
"""A share of a limit, and a largest value as a multiple of the smallest, that only a busy machine explains."""
ROUNDS = 3
"""So many times a rate and its limit are measured before the machine is called busy."""


def shares_of_limit(
    measure: Measure, limit: Measure, repeats: int, values: Sequence[float], limits: Sequence[float]
) -> tuple[list[float], bool]:
    """Return rates as shares of the best of their limit's repeats, and whether the machine was too busy for them.

    Where it was, both are measured again by themselves.

    Args:
        measure: Measures the rate.
        limit: Measures what it can't exceed.
        repeats: Repeats of a further round.
        values: Rates measured so far.
        limits: Limits measured beside them.
    """
    for _ in range(ROUNDS - 1):
        if not _is_busy(values, limits):
            break
        again = paired({"rate": measure, "limit": limit}, repeats)
        values, limits = again["rate"], again["limit"]
    return [value / max(limits) for value in values], _is_busy(values, limits)


def _is_busy(values: Sequence[float], limits: Sequence[float]) -> bool:
    spreads = [max(measured) / min(measured) for measured in (values, limits)]
    return max(spreads) > WIDE_SPREAD or statistics.median(values) > ABOVE_LIMIT * max(limits)


class Stopwatch(AbstractContextManager["Stopwatch"]):
    """Wall time of the statements under `with`, in `seconds`."""

    seconds = 0.0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
