"""Intervals of means and shares, and Student's t, in plain Python: scipy takes half a second to import."""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE_95 = 1.959964
"""Half width, in standard deviations, of the interval that holds 95 % of a normal distribution."""
STEPS = 100_000
"""Maximum number of terms of a continued fraction; a million degrees of freedom need about a thousand."""


def interval(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the mean (Student's t); 0 for a single value."""
    freedom = len(values) - 1
    if freedom == 0:
        return 0.0
    return student_quantile(0.975, freedom) * statistics.stdev(values) / math.sqrt(len(values))


def wilson_interval(share: float, count: int, width: float = CONFIDENCE_95) -> tuple[float, float]:
    """Return the interval of a binomial share of `count`, within 0 and 1 and with the share in it (Wilson 1927)."""
    spread = width**2 / count
    center = (share + spread / 2) / (1 + spread)
    half = width / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # At 0 and 1 one end is the share itself, which rounding may miss.
    return min(share, max(0.0, center - half)), max(share, min(1.0, center + half))


def student_two_sided(t: float, freedom: float) -> float:
    """Return the probability that Student's t is as far from 0 as `t`; `freedom` may be a fraction."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def student_quantile(share: float, freedom: float) -> float:
    """Return the value below which Student's t is with probability `share`, between 0.5 and 1."""
    low, high = 0.0, 1.0
    while student_two_sided(high, freedom) > 2 * (1 - share):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, freedom) > 2 * (1 - share) else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function by its continued fraction (Press et al. 2007, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on the other side alone
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    d = 1 / (1 - (a + b) * x / (a + 1))
    c, value = 1.0, d
    for m in range(1, STEPS):
        for term in (
            m * (b - m) * x / ((a - 1 + 2 * m) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 1 + 2 * m)),
        ):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            return math.exp(front) * value / a
    raise ArithmeticError(f"the incomplete beta function of {a}, {b} and {x} has not converged")
