import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from textrnn.comparing.statistics import (
    accuracy,
    difference,
    holm,
    mcnemar,
    over_reviews,
    over_seeds_and_reviews,
    overlap,
    smallest_difference,
)


def differences(only_first: int, only_second: int, reviews: int) -> npt.NDArray[np.int8]:
    kinds = np.array([[1] * only_first + [-1] * only_second + [0] * (reviews - only_first - only_second)])
    return kinds.astype(np.int8)


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (6, 0), (3, 9), (40, 40), (1200, 1350), (12_500, 12_200)]
)
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    p = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-9)
    assert mcnemar(only_second, only_first) == pytest.approx(p, rel=1e-9)


def test_holm_multiplies_the_smallest_by_their_number() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_bootstrap_over_reviews_has_the_width_of_the_normal_interval_and_is_repeatable() -> None:
    found = over_reviews(differences(900, 800, 25_000))
    half = 1.96 * math.sqrt(1700 / 25_000 - 0.004**2) / math.sqrt(25_000)
    assert (found.value, found.low, found.high) == pytest.approx((0.004, 0.004 - half, 0.004 + half), abs=1e-4)
    assert over_reviews(differences(900, 800, 25_000)) == found


def test_equal_seeds_leave_the_error_of_the_reviews() -> None:
    one = differences(30, 10, 400)
    found = over_seeds_and_reviews(np.repeat(one, 5, axis=0))
    assert found.error == pytest.approx(stats.sem(one[0]))
    assert found.freedom == pytest.approx(399)


def test_equal_reviews_leave_the_error_of_the_seeds() -> None:
    by_seed = [-1, 0, 1, 1, 1]
    found = over_seeds_and_reviews(np.repeat(np.array(by_seed)[:, None], 50, axis=1))
    assert (found.error, found.freedom) == pytest.approx((stats.sem(by_seed), 4))
    assert found.p == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)


def test_nothing_that_differs_has_no_width_and_six_reviews_are_the_least_that_is_shown() -> None:
    for seeds in (1, 3):
        found = difference(np.zeros((seeds, 200), dtype=np.int8))
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert smallest_difference(found, 200) == 6 / 200
    assert mcnemar(6, 0) < 0.05 < mcnemar(5, 0)


def test_the_smallest_difference_is_shown_four_times_of_five() -> None:
    rng = np.random.default_rng(0)
    smallest = smallest_difference(over_reviews(differences(500, 500, 10_000)), 10_000)
    more = 10_000 * (0.1 + smallest) / 2
    counts = rng.multinomial(10_000, (more / 10_000, 0.1 - more / 10_000, 0.9), size=1000)
    shown = np.mean([mcnemar(int(first), int(second)) < 0.05 for first, second, _ in counts])
    assert 0.76 < shown < 0.84


def test_errors_on_the_same_reviews_have_kappa_one() -> None:
    first = np.array([[True, True, False, False]])
    assert overlap(first, first).kappa == 1
    found = overlap(first, np.array([[True, False, True, False]]))
    assert (found.both, found.only_first, found.only_second, found.neither, found.kappa) == (0.25, 0.25, 0.25, 0.25, 0)
    assert math.isnan(overlap(np.ones((1, 3)), np.ones((1, 3))).kappa)


def test_one_seed_has_wilsons_interval() -> None:
    found = accuracy(np.arange(100)[None] < 90)
    assert (found.low, found.high) == pytest.approx(tuple(stats.binomtest(90, 100).proportion_ci(method="wilson")))


@pytest.mark.parametrize(("seeds", "seed_effect"), [(1, 0.0), (5, 0.0), (5, 0.03)])
def test_95_percent_intervals_hold_the_truth_about_as_often(seeds: int, seed_effect: float) -> None:
    """300 draws, of which 285 are expected; `benchmarks/coverage.py` makes 1,000 of each of more cases."""
    rng = np.random.default_rng(seeds)
    spread = math.sqrt(0.8**2 + 0.3**2 + 0.5**2 + seed_effect**2)
    truth = stats.norm.cdf(1.25 / spread) - stats.norm.cdf(1.15 / spread)
    held = 0
    for _ in range(300):
        difficulty = rng.normal(0, 0.8, 1000)
        right = [
            mean
            + difficulty
            + rng.normal(0, 0.3, 1000)
            + rng.normal(0, seed_effect, (seeds, 1))
            + rng.normal(0, 0.5, (seeds, 1000))
            > 0
            for mean in (1.25, 1.15)
        ]
        found = difference(right[0].astype(np.int8) - right[1].astype(np.int8))
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 300 <= 0.99
