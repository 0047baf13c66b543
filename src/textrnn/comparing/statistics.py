"""Statistics of paired measurements, with NumPy alone.

A measurement is an array (seeds, reviews): of one setting whether each review was right; of two settings the
difference, 1 if only the first was right, -1 if only the second.

Runs and reviews are samples both: another seed gives another model, another test set other reviews. With several seeds
the interval is that of the two-way model with random effects of seeds and reviews: the mean's variance comes from the
mean squares, and Student's t has Satterthwaite's degrees of freedom (Satterthwaite 1946; after Miller 2024, "Adding
error bars to evals", and Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks"). With five
seeds two other intervals hold the truth less evenly: a bootstrap that resamples seeds and reviews is too short where
seeds differ much, and Student's t over the seeds alone, which share their reviews, where they differ little
(`benchmarks/coverage.py`; docs/howto/compare.md has the figures).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np
import numpy.typing as npt

from textrnn.base.intervals import interval, student_quantile, student_two_sided, wilson_interval

Measured = npt.NDArray[np.generic]
"""(seeds, reviews): right or wrong, or differences of these."""

DRAWS = 10_000
"""Resamples of a bootstrap."""
POWER = 0.8
"""Probability with which the smallest difference that could be shown is shown."""
FEWEST = 6
"""Reviews that only one model has right, and none the other, from which on McNemar's p is below 0.05."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard error of the mean."""
    freedom: float
    """Degrees of freedom of the standard error; infinite where reviews alone vary."""

    @property
    def p(self) -> float:
        """Probability of a mean as far from 0, if it is 0 in truth."""
        if self.error == 0:
            return float(self.value == 0)
        if math.isinf(self.freedom):
            return math.erfc(abs(self.value) / self.error / math.sqrt(2))
        return student_two_sided(self.value / self.error, self.freedom)


def accuracy(right: Measured) -> Estimate:
    """Return the accuracy of a setting: with several seeds over seeds and reviews, with one by Wilson (1927)."""
    seeds, reviews = right.shape
    if seeds > 1:
        return over_seeds_and_reviews(right)
    share = float(right.mean())
    low, high = wilson_interval(share, reviews)
    error = math.sqrt(share * (1 - share) / reviews)
    return Estimate(value=share, low=low, high=high, error=error, freedom=math.inf)


def over_reviews(differences: Measured, *, draws: int = DRAWS) -> Estimate:
    """Return the mean over the reviews, for these models: a percentile bootstrap, the same at each call.

    Reviews with the same mean over the seeds are interchangeable, so a resample is one draw of how many of each kind it
    has: a multinomial distribution, exactly.
    """
    seeds, reviews = differences.shape
    sums = differences.sum(axis=0, dtype=np.int64)
    kinds, counts = np.unique(sums, return_counts=True)
    resampled = np.random.default_rng(0).multinomial(reviews, counts / reviews, size=draws) @ kinds
    low, high = np.quantile(resampled, (0.025, 0.975)) / (seeds * reviews)
    error = float(sums.std()) / seeds / math.sqrt(reviews)
    return Estimate(value=float(sums.mean()) / seeds, low=float(low), high=float(high), error=error, freedom=math.inf)


def over_seeds_and_reviews(measured: Measured) -> Estimate:
    """Return the mean over seeds and reviews, for the settings: Student's t on variance components.

    The mean square of the seeds counts as at least that of the rest, which it is without an effect of the seed. From
    two seeds its estimate is often far too small by chance, and the interval would be too short.

    Args:
        measured: (seeds, reviews), at least two seeds and two reviews.
    """
    seeds, reviews = measured.shape
    values = measured.astype(np.float64)
    mean, by_seed, by_review = float(values.mean()), values.mean(axis=1), values.mean(axis=0)
    of_seeds = reviews * float(np.square(by_seed - mean).sum()) / (seeds - 1)
    of_reviews = seeds * float(np.square(by_review - mean).sum()) / (reviews - 1)
    rest = float(np.square(values - by_seed[:, None] - by_review + mean).sum()) / ((seeds - 1) * (reviews - 1))
    of_seeds = max(of_seeds, rest)
    total = of_seeds + of_reviews - rest  # `rest` is part of both others
    error = math.sqrt(total / (seeds * reviews))
    if error == 0:
        return Estimate(value=mean, low=mean, high=mean, error=0.0, freedom=math.inf)
    freedom = total**2 / (of_seeds**2 / (seeds - 1) + of_reviews**2 / (reviews - 1))
    half = student_quantile(0.975, freedom) * error
    return Estimate(value=mean, low=mean - half, high=mean + half, error=error, freedom=freedom)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean of at least two seeds' values, on whatever reviews: Student's t."""
    mean, half = fmean(values), interval(values)
    error = stdev(values) / math.sqrt(len(values))
    return Estimate(value=mean, low=mean - half, high=mean + half, error=error, freedom=len(values) - 1)


def difference(differences: Measured) -> Estimate:
    """Return the mean difference: over seeds and reviews, or with one seed over reviews."""
    return over_seeds_and_reviews(differences) if len(differences) > 1 else over_reviews(differences)


def smallest_difference(estimate: Estimate, reviews: int, *, comparisons: int = 1) -> float:
    """Return the true difference that data with this standard error show with a probability of 80 %.

    Shown means p < 0.05; with several comparisons it is Bonferroni's bound, at which Holm's method rejects too.

    Args:
        estimate: The mean difference.
        reviews: Number of reviews.
        comparisons: Number of comparisons.
    """
    share = 1 - 0.025 / comparisons
    if math.isinf(estimate.freedom):
        normal = NormalDist()
        width = normal.inv_cdf(share) + normal.inv_cdf(POWER)
    else:
        width = student_quantile(share, estimate.freedom) + student_quantile(POWER, estimate.freedom)
    return max(width * estimate.error, FEWEST / reviews)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test: who alone has a review right is a coin's toss."""
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    k = np.arange(1, fewer + 1)
    # Logarithms of the binomial coefficients, as 2**-tosses is 0 in floating point from 1,075 tosses on.
    logs = np.concatenate(([0.0], np.cumsum(np.log(tosses - k + 1) - np.log(k)))) - tosses * math.log(2)
    return min(1.0, 2 * math.exp(float(np.logaddexp.reduce(logs))))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p values of several comparisons, corrected by Holm's method (1979): below 0.05 all of them hold."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = largest
    return corrected


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Shares of the reviews by who has them right, over all seeds."""

    both: float
    only_first: float
    only_second: float
    neither: float

    @property
    def kappa(self) -> float:
        """Cohen's kappa of being right: 1 for errors on the same reviews, 0 for errors that have nothing in common.

        That of errors, not of classes (error consistency, Geirhos et al. 2020);
        NaN if both models have all reviews right, or none.
        """
        first, second = self.both + self.only_first, self.both + self.only_second
        by_chance = first * second + (1 - first) * (1 - second)
        return (self.both + self.neither - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def overlap(first: Measured, second: Measured) -> Overlap:
    """Return the shares of reviews that two settings have right, seed by seed; both are (seeds, reviews) of bool."""
    right, other = first.astype(bool), second.astype(bool)
    return Overlap(
        both=float((right & other).mean()),
        only_first=float((right & ~other).mean()),
        only_second=float((~right & other).mean()),
        neither=float((~right & ~other).mean()),
    )
