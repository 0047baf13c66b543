"""W&B's engine as we ask it: the order of a grid, ranges, seeds, distributions, and who is stopped."""

from typing import Any

import numpy as np
import pytest
from doubles.sweeps_made import sweep, trial
from scipy import stats

from textrnn.base.errors import InputError
from textrnn.sweeping.engine import Engine, check_hyperband, ends
from textrnn.sweeping.trials import Trial
from textrnn.tracking.summary import Status

HYPERBAND = {"type": "hyperband", "min_iter": 2, "eta": 3}


def test_a_grid_is_walked_once() -> None:
    engine = Engine(sweep(parameters={"seed": {"values": [0, 1]}, "model": {"values": ["rnn", "gru"]}}))
    trials: list[Trial] = []
    while (parameters := engine.propose(trials)) is not None:
        trials.append(trial(len(trials) + 1, parameters))
    settings = [(found.parameters["model"], found.parameters["seed"]) for found in trials]
    assert settings == [("rnn", 0), ("rnn", 1), ("gru", 0), ("gru", 1)]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_drawn_values_are_plain_and_inside(method: str) -> None:
    parameters = {
        "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "model.hidden_size": {"distribution": "int_uniform", "min": 8, "max": 16},
        "model.pooling": {"values": ["max", "mean"]},
    }
    engine = Engine(sweep(method=method, parameters=parameters))
    trials: list[Trial] = []
    for number in range(1, 5):
        drawn = engine.propose(trials)
        assert drawn is not None
        assert {name: type(value) for name, value in drawn.items()} == {
            "optimizer.lr": float,
            "model.hidden_size": int,
            "model.pooling": str,
        }
        assert 1e-4 <= drawn["optimizer.lr"] <= 1e-2
        assert 8 <= drawn["model.hidden_size"] <= 16
        trials.append(trial(number, drawn, Status.FINISHED, [1.0 / number]))


@pytest.mark.parametrize("changes", [{"method": "random"}, {"method": "bayes"}, {"scheduler": {"engine": "optuna"}}])
def test_the_same_seed_draws_the_same_trials(changes: dict[str, Any]) -> None:
    parameters = {"optimizer.lr": {"min": 0.0, "max": 1.0}, "model.pooling": {"values": ["max", "mean", "last"]}}

    def draw(seed: int, before: int = 0) -> list[dict[str, Any]]:
        trials: list[Trial] = []
        for number in range(1, 7):
            if number == 1 + before:  # as after --resume
                engine = Engine(sweep(parameters=parameters, seed=seed, **changes))
            drawn = (engine if number > before else Engine(sweep(parameters=parameters, seed=seed, **changes))).propose(
                trials
            )
            assert drawn is not None
            trials.append(trial(number, drawn, Status.FINISHED, [drawn["optimizer.lr"]]))
        return [found.parameters for found in trials]

    assert draw(3) == draw(3, before=2)
    assert draw(3) != draw(4)
    assert len({str(parameters) for parameters in draw(3)}) == 6


DISTRIBUTIONS: list[tuple[dict[str, Any], Any, float]] = [
    ({"min": 2.0, "max": 5.0}, stats.uniform(2, 3), 0),
    ({"min": 2, "max": 5}, stats.randint(2, 6), 1),
    ({"distribution": "q_uniform", "min": 0.0, "max": 10.0, "q": 0.5}, stats.uniform(0, 10), 0.5),
    ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, stats.loguniform(1e-4, 1e-1), 0),
    ({"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 1e-1}, stats.loguniform(1e-4, 1e-1), 0),
    ({"distribution": "q_log_uniform_values", "min": 1.0, "max": 100.0, "q": 2}, stats.loguniform(1, 100), 2),
    ({"distribution": "normal", "mu": 1.0, "sigma": 2.0}, stats.norm(1, 2), 0),
    ({"distribution": "q_normal", "mu": 1.0, "sigma": 2.0, "q": 0.5}, stats.norm(1, 2), 0.5),
    ({"distribution": "log_normal", "mu": -1.0, "sigma": 0.5}, stats.lognorm(0.5, scale=np.exp(-1)), 0),
    ({"distribution": "q_log_normal", "mu": 1.0, "sigma": 0.5, "q": 0.5}, stats.lognorm(0.5, scale=np.e), 0.5),
    ({"distribution": "beta", "a": 2, "b": 3}, stats.beta(2, 3), 0),
    ({"distribution": "q_beta", "a": 2, "b": 3, "q": 0.1}, stats.beta(2, 3), 0.1),
]


@pytest.mark.parametrize(("specification", "expected", "q"), DISTRIBUTIONS)
def test_draws_have_the_documented_distribution(specification: dict[str, Any], expected: Any, q: float) -> None:
    """By W&B's sweep documentation: q_ distributions are the plain ones rounded to multiples of q."""
    engine = Engine(sweep(method="random", parameters={"x": specification}, seed=1))
    trials: list[Trial] = []
    drawn = []
    for number in range(300):
        parameters = engine.propose(trials)
        assert parameters is not None
        drawn.append(parameters["x"])
        trials = [trial(number, parameters, Status.FINISHED)] * (number + 1)
    if q and not isinstance(expected.dist, stats.rv_discrete):
        assert np.allclose(np.remainder(np.array(drawn) / q + 0.5, 1), 0.5)
    # Between the cumulative probabilities just below and above a rounded value lies all of its mass.
    values = np.unique(drawn)
    empirical = np.searchsorted(np.sort(drawn), values, side="right") / len(drawn)
    half = 0 if isinstance(expected.dist, stats.rv_discrete) else q / 2
    assert np.abs(empirical - expected.cdf(values + half)).max() < stats.kstwo.isf(1e-4, len(drawn))


def test_probabilities_of_values_are_used() -> None:
    weighted = {"values": ["a", "b", "c"], "probabilities": [0.7, 0.2, 0.1]}
    engine = Engine(sweep(method="random", parameters={"x": weighted}, seed=1))
    trials: list[Trial] = []
    for number in range(300):
        parameters = engine.propose(trials)
        assert parameters is not None
        trials.append(trial(number, parameters, Status.FINISHED))
    counts = [sum(found.parameters["x"] == value for found in trials) for value in "abc"]
    assert stats.chisquare(counts, [210, 60, 30]).pvalue > 1e-4


@pytest.mark.parametrize(("goal", "sign"), [("minimize", 1), ("maximize", -1)])
def test_hyperband_stops_the_weak_ones_that_run(goal: str, sign: int) -> None:
    made = sweep(early_terminate=HYPERBAND, metric={"name": "val/loss", "goal": goal}, goal=goal)
    trials = [
        trial(1, {"seed": 1}, Status.FINISHED, [sign * value for value in (3.0, 2.0, 1.0)]),
        trial(2, {"seed": 2}, Status.RUNNING, [sign * value for value in (3.0, 2.9, 2.8)]),
        trial(3, {"seed": 3}, Status.RUNNING, [sign * value for value in (3.0, 2.9)]),
        trial(4, {"seed": 4}, Status.RUNNING, [sign * value for value in (2.0, 1.0, 0.5)]),
        trial(5, {"seed": 5}, Status.STOPPED, [sign * value for value in (9.0, 9.0, 9.0)]),
        trial(6, {"seed": 6}, Status.WAITING, []),
    ]
    reasons = Engine(made).to_stop(trials)
    assert list(reasons) == ["run2"]
    assert reasons["run2"] == f"hyperband: best val/loss {sign * 2.8:g} after 3 values, needed {sign:g}"
    # Its best value came early: strict looks at the one of the rung.
    trials[3] = trial(4, {"seed": 4}, Status.RUNNING, [sign * value for value in (0.5, 1.0, 2.0)])
    assert list(Engine(made).to_stop(trials)) == ["run2"]
    made.config["early_terminate"] = HYPERBAND | {"strict": True}
    strict = Engine(made)
    assert strict.propose(trials) is None, "six settings, six trials"
    assert strict.to_stop(trials) == {
        number: f"hyperband: val/loss {sign * value:g} at value 3, needed {sign * 2:g}"
        for number, value in (("run2", 2.8),)
    }


def test_without_early_termination_nobody_is_stopped() -> None:
    assert Engine(sweep()).to_stop([trial(1, {"seed": 1}, Status.RUNNING, [9.0] * 9)]) == {}


def test_a_loss_that_is_no_number_does_not_stop_the_sweep() -> None:
    made = sweep(method="bayes", early_terminate=HYPERBAND)
    trials = [
        trial(1, {"seed": 1}, Status.FINISHED, [float("nan")] * 3),
        trial(2, {"seed": 2}, Status.RUNNING, [float("nan")] * 3),
    ]
    assert Engine(made).to_stop(trials) == {}
    assert Engine(made).propose(trials) is not None


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        ({"value": 3}, [3]),
        ({"values": [1, "a"]}, [1, "a"]),
        ({"min": 8, "max": 16}, [8, 16]),
        ({"min": 0.5, "max": 1.5}, [0.5, 1.5]),
        ({"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}, [0.001, 0.1]),
        ({"distribution": "q_uniform", "min": 16, "max": 64, "q": 16}, [16, 64]),
    ],
)
def test_ends_of_a_parameter(specification: dict[str, object], expected: list[object]) -> None:
    found = ends("x", specification)
    assert found == pytest.approx(expected, rel=1e-6) if isinstance(expected[-1], float) else found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("rungs", "first"),
    [({"min_iter": 4}, 4), ({"max_iter": 27, "s": 2, "eta": 3}, 3), ({"max_iter": 9, "s": 1, "eta": 2}, 4)],
)
def test_first_rung_of_hyperband(rungs: dict[str, int], first: int) -> None:
    assert check_hyperband({"type": "hyperband", **rungs}) == first


def test_hyperband_without_a_rung() -> None:
    with pytest.raises(InputError, match="no rung"):
        check_hyperband({"type": "hyperband", "max_iter": 1, "s": 1, "eta": 3})
