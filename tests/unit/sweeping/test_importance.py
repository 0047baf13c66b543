from typing import Any

import numpy as np
import pytest

from textrnn.sweeping.importance import explained_share, grouped, importances, ranked


def searched(runs: int = 40) -> tuple[list[dict[str, Any]], list[float]]:
    """A search in which `lr` has its best value in the middle, `cell` matters and `dropout` doesn't."""
    random = np.random.default_rng(3)
    lr, dropout = random.uniform(-1, 1, runs), random.uniform(size=runs)
    cells = random.choice(["rnn", "gru"], runs)
    metric = 0.3 * (cells == "gru") - lr**2 + random.normal(0, 0.05, runs)
    values = zip(lr.tolist(), cells.tolist(), dropout.tolist(), strict=True)
    return [dict(zip(("lr", "cell", "dropout"), row, strict=True)) for row in values], metric.tolist()


def test_parameters_that_matter_are_above_chance_even_with_the_best_value_in_the_middle() -> None:
    found = {one.name: one for one in importances(*searched(), ["lr", "cell", "dropout"])}
    assert list(found) == ["lr", "cell", "dropout"]
    assert found["lr"].share > found["lr"].chance
    assert abs(found["lr"].correlation or 0) < 0.4  # a correlation alone would miss it
    assert found["cell"].share > found["cell"].chance
    assert found["cell"].correlation is None
    assert found["dropout"].share < found["dropout"].chance


def test_chance_is_exceeded_by_one_in_twenty() -> None:
    random = np.random.default_rng(2)
    above = 0
    for _ in range(300):
        settings = [{"x": float(value)} for value in random.uniform(size=30)]
        (found,) = importances(settings, random.normal(size=30).tolist(), ["x"])
        above += found.share > found.chance
    assert 5 <= above <= 27


@pytest.mark.parametrize(("runs", "metric"), [(7, None), (20, 0.5)], ids=["few runs", "the same result everywhere"])
def test_nothing_is_said_without_enough_to_say_it(runs: int, metric: float | None) -> None:
    settings, measured = searched(runs)
    assert importances(settings, measured if metric is None else [metric] * runs, ["lr"]) == []


def test_a_parameter_of_one_value_is_left_out_and_a_missing_one_is_a_value() -> None:
    settings, metric = searched()
    settings = [{**one, "fixed": 3} | ({"late": 1} if place % 2 else {}) for place, one in enumerate(settings)]
    names = [one.name for one in importances(settings, metric, ["fixed", "late"])]
    assert names == ["late"]


def test_ranks_and_groups() -> None:
    assert ranked(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]
    values = [True, 1, "1", None]
    assert len(set(grouped(values, None).tolist())) == 4
    numbers = np.arange(10.0)
    assert np.bincount(grouped(numbers.tolist(), numbers)).tolist() == [2, 3, 2, 3]
    ranks = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert explained_share(np.array([0, 0, 1, 1]), ranks)[0] == pytest.approx(0.8)
