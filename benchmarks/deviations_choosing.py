"""Deviation 3: epochs and settings are chosen on the test reviews, which then report the accuracy of the chosen one."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from deviations_data import percent, table
from deviations_model import Correct, Run, binomial_sd
from report import Claim, Report

CHOICES = (1, 2, 5, 10, 20, 40)
REVIEWS = (50, 250, 1000, 2500, 12500)
DRAWS = 400
"""Random sets of reviews and of candidates that a figure is the mean of."""


def measure(runs: Mapping[str, Sequence[Run]], validation_labels: npt.NDArray[np.int16], report: Report) -> None:
    """Choose epochs, and epochs and settings, on test and on validation, and fill in the report."""
    seeds = range(len(next(iter(runs.values()))))
    chosen = table(report, "3 choosing: accuracy that is reported for the chosen one", "%")
    negative = validation_labels == 0
    for seed in seeds:
        for choices, of_seed in {
            "an epoch": [next(iter(runs.values()))[seed]],
            "a setting and an epoch": [of_seeds[seed] for of_seeds in runs.values()],
        }.items():
            test = [correct for run in of_seed for correct in run.test]
            validation = [correct for run in of_seed for correct in run.validation]
            row = f"{choices}, of {len(test)}"
            accuracies = [percent(correct) for correct in test]
            chosen.append(row, "test chooses, test reports", max(accuracies))
            chosen.append(row, "validation chooses, test reports", accuracies[_best(validation)])
            chosen.append(row, "validation chooses and reports", max(map(percent, validation)))
            one_class = [correct[negative] for correct in validation]
            chosen.append(row, "its negative reviews choose, test reports", accuracies[_best(one_class)])
    for row, cells in chosen.cells.items():
        reported, right = cells["test chooses, test reports"], cells["validation chooses, test reports"]
        more = [theirs - ours for theirs, ours in zip(reported, right, strict=True)]
        report.claims.append(Claim(name=f"3 choosing {row}: reported in excess", values=more, unit="points"))
    _simulate([correct for of_seeds in runs.values() for run in of_seeds for correct in run.test], report)


def _best(candidates: Sequence[Correct]) -> int:
    return int(np.argmax([correct.mean() for correct in candidates]))


def _simulate(candidates: Sequence[Correct], report: Report) -> None:
    """Return the excess accuracy of the best of k on the reviews that chose it, compared with the other reviews.

    Some of the test reviews, drawn at random, are the test set; the others give the true accuracy of the chosen one.
    """
    generator = np.random.default_rng(0)
    correct = np.stack(candidates).astype(np.float32)
    candidate_count, reviews = correct.shape
    measured = table(report, "3 choosing: best of so many, too good on the reviews that chose, IMDB's runs", "points")
    computed = table(report, "3 choosing: the same, of independent candidates equally good, computed", "points")
    for count in (number for number in REVIEWS if 2 * number <= reviews):
        row = f"{count} reviews"
        excess: dict[str, list[float]] = {}
        for _ in range(DRAWS):
            used = np.zeros(reviews, dtype=bool)
            used[generator.choice(reviews, count, replace=False)] = True
            seen = correct @ used.astype(np.float32)
            on_others = (correct.sum(axis=1) - seen) / (reviews - count)
            for choices in (number for number in CHOICES if number <= candidate_count):
                drawn = generator.choice(candidate_count, choices, replace=False)
                best = drawn[np.argmax(seen[drawn])]
                excess.setdefault(f"{choices}", []).append(100 * float(seen[best] / count - on_others[best]))
        for column, values in excess.items():
            measured.add(row, column, [float(np.mean(values))])
            computed.add(row, column, [expected_excess(int(column), float(correct.mean()), count)])


def expected_excess(choices: int, accuracy: float, reviews: int) -> float:
    """Return the points by which the best of so many is expected to look better than it is.

    All have the same true accuracy and err independently; their measured ones are normal, with the binomial's standard
    deviation. The expected largest of k standard normal numbers is the integral of x d(Phi(x)^k).
    """
    grid = np.linspace(-8, 8, 4001)
    cumulative = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in grid]) ** choices
    largest = float(np.sum((grid[1:] + grid[:-1]) / 2 * np.diff(cumulative)))
    return 100 * binomial_sd(accuracy, reviews) * largest
