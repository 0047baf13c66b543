import math

import numpy as np

from textrnn.reporting.curves import MOST_POINTS, curves_of, points_for, thinned


def test_a_thinned_curve_keeps_ends_and_every_extreme() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=5000)
    values[1234], values[4321] = 40.0, -40.0
    kept = thinned(values.tolist(), 100)
    assert len(kept) <= 102
    assert kept == sorted(set(kept))
    assert {0, 1234, 4321, 4999} <= set(kept)
    for start in range(0, 5000, 100):  # 50 stretches
        inside = [values[place] for place in kept if start <= place < start + 100]
        assert min(inside) == values[start : start + 100].min()
        assert max(inside) == values[start : start + 100].max()


def test_a_divergence_stays_visible() -> None:
    values = [0.5] * 1000
    values[300:] = [math.nan] * 700
    assert 300 in thinned(values, 20)
    rows = [{"step": step, "epoch": 0, "val/loss": value} for step, value in enumerate(values)]
    steps, shown = curves_of(rows, 20)["val/loss"]
    assert dict(zip(steps, shown, strict=True))[300] is None


def test_short_curves_are_whole_and_metrics_keep_their_own_steps() -> None:
    rows = [{"step": 1, "epoch": 0, "train/loss": 0.123456789}, {"step": 2, "epoch": 0, "val/loss": 0.5}]
    assert curves_of(rows, 10) == {"train/loss": ([1], [0.123457]), "val/loss": ([2], [0.5])}
    assert (points_for(1), points_for(500), points_for(10_000)) == (MOST_POINTS, 120, 60)
