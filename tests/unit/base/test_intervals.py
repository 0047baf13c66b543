import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from textrnn.base.intervals import interval, student_quantile, student_two_sided, wilson_interval


def test_student_is_that_of_scipy() -> None:
    for freedom in (0.8, 1, 2.5, 4, 10, 24_999, 650_000):
        for share in (0.8, 0.975, 0.9995):
            assert student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-8)
        for t in (0, 0.01, 2, 5):
            assert student_two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6)


def test_a_mean_has_its_interval() -> None:
    assert interval([0.5]) == 0
    for values, quantile in (([0.0, 1.0], 12.706), (list(range(13)), 2.179), (list(range(31)), 2.042)):
        assert interval(values) == pytest.approx(quantile * np.std(values, ddof=1) / len(values) ** 0.5, rel=1e-3)


@given(correct=st.integers(0, 40), count=st.integers(1, 40))
def test_an_interval_is_where_the_share_is_not_far_out(correct: int, count: int) -> None:
    """Wilson's interval holds the probabilities from which the share is less than the width away."""
    share = min(correct, count) / count
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)
