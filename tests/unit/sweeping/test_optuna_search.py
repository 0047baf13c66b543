"""Optuna as a sweep's engine: it learns from the trials, and skips those that taught nothing."""

from dataclasses import replace
from typing import Any

import pytest
from doubles.sweeps_made import metric, sweep, trial

from textrnn.base.errors import InputError
from textrnn.sweeping import optuna_search
from textrnn.sweeping.engine import Engine
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.optuna_search import check_optuna
from textrnn.sweeping.trials import Trial
from textrnn.tracking.summary import Status

OPTUNA: dict[str, Any] = {
    "scheduler": {"engine": "optuna"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", "b"]}, "fixed": {"value": 7}},
    "seed": 0,
}


def test_it_finds_the_minimum_that_random_search_misses() -> None:
    engine = Engine(sweep(**OPTUNA))
    trials: list[Trial] = []
    for number in range(1, 41):
        drawn = engine.propose(trials)
        assert drawn is not None
        assert drawn["fixed"] == 7
        loss = (drawn["x"] - 0.3) ** 2 + (drawn["kind"] == "a")
        status = Status.FAILED if number == 5 else Status.RUNNING if number == 40 else Status.FINISHED
        trials.append(trial(number, drawn, status, [loss] if status == Status.FINISHED else []))
    late = trials[20:]
    assert sum(found.parameters["kind"] == "b" for found in late) > 15
    assert sum(abs(found.parameters["x"] - 0.3) < 0.15 for found in late) > 10


def test_several_metrics_are_searched_at_once() -> None:
    made = sweep(**OPTUNA, metrics=[])
    made = replace(made, metrics=[metric(), Metric(name="train/tokens_per_second", goal="maximize", target=None)])
    engine = Engine(made)
    trials: list[Trial] = []
    for number in range(1, 13):
        drawn = engine.propose(trials)
        assert drawn is not None
        finals = {} if number == 3 else {"train/tokens_per_second": drawn["x"]}  # one was measured by half
        trials.append(trial(number, drawn, Status.FINISHED, [drawn["x"]], finals=finals))
    assert len({found.parameters["x"] for found in trials}) == 12


def test_without_optuna_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_search, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install optuna"):
        check_optuna(sweep(**OPTUNA))
