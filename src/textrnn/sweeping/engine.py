"""W&B's open-source engine, package `sweeps`: proposes parameters and stops trials early."""

import random
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from textrnn.base.errors import InputError
from textrnn.sweeping import optuna_search
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.trials import Trial
from textrnn.tracking.summary import Status

STATES = {
    # A stopped trial counts with its own best value; for a killed one the engine would take the worst value of all.
    Status.STOPPED: "finished",
    Status.FINISHED: "finished",
    Status.FAILED: "failed",
    Status.RUNNING: "running",
}


class Engine:
    """Proposes parameters and stops trials; it has no state but the sweep file and the trials so far."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        # Not in its schema: these, and hyperband's strict.
        others = ("run_cap", "seed", "scheduler", "metrics")
        self._config = {key: value for key, value in sweep.config.items() if key not in others}
        if sweep.metric is not None and "metrics" in sweep.config:  # the first one decides about early stopping
            self._config["metric"] = {"name": sweep.metric.name, "goal": sweep.metric.goal}
        if "early_terminate" in self._config:
            self._config["early_terminate"] = _without_strict(self._config["early_terminate"])
        self._is_strict = bool(sweep.config.get("early_terminate", {}).get("strict"))
        self._metric = sweep.metric

    def propose(self, trials: Iterable[Trial]) -> dict[str, Any] | None:
        """Return the next trial's parameters; None when a grid is exhausted.

        Raises:
            InputError: for a combination of method and parameters that the engine does not support.
        """
        trials = list(trials)
        # The number of trials is part of the seed, so that a resumed search draws what the whole one would have drawn.
        seed = None if self._sweep.seed is None else _seed(self._sweep.seed, len(trials))
        if self._sweep.search == "optuna":
            return optuna_search.propose(self._sweep, trials, seed)
        with warnings.catch_warnings():
            # The package causes them: renamed settings of pydantic, means of empty lists.
            warnings.simplefilter("ignore")
            from sweeps.run import next_run

            if seed is not None:  # it draws from both global generators
                random.seed(seed)
                np.random.seed(seed)  # noqa: NPY002  # the generator that the package reads
            try:
                run = next_run(self._config, self._runs(trials))
            except ValueError as error:
                raise InputError(f"method: {self._config['method']}: {' '.join(str(error).split())}") from error
        return None if run is None else {name: plain(item["value"]) for name, item in run.config.items()}

    def to_stop(self, trials: Iterable[Trial]) -> dict[str, str]:
        """Return the running trials that early stopping ends: the reason by run id."""
        if "early_terminate" not in self._config:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sweeps.run import stop_runs

            runs = self._runs(trials)
            stopped = stop_runs(self._config, runs)
        if self._is_strict:
            running = [run for run in runs if run.early_terminate_info]
            return {run.name: reason for run in running if (reason := self._strict_reason(run)) is not None}
        return {run.name: self._reason(run) for run in stopped}

    def _runs(self, trials: Iterable[Trial]) -> list[Any]:
        from sweeps.run import SweepRun

        name = None if self._metric is None else self._metric.name
        return [
            # By exactly these names: pydantic ignores all others.
            SweepRun(
                name=trial.run_id,
                state=STATES.get(trial.status, "pending"),
                config={key: {"value": value} for key, value in trial.parameters.items()},
                sampledHistory=[{name: value} for value in trial.history],
                summaryMetrics={},
            )
            for trial in trials
        ]

    def _reason(self, run: Any) -> str:
        assert self._metric is not None
        values = run.metric_history(self._metric.name, filter_invalid=True)
        _, threshold = self._reached(run)[-1]
        best = max(self._metric.sign * value for value in values) * self._metric.sign
        return (
            f"hyperband: best {self._metric.name} {best:.4g} after {len(values)} values, "
            f"needed {-self._metric.sign * threshold:.4g}"
        )

    def _strict_reason(self, run: Any) -> str | None:
        """Return why `strict: true` stops a trial: its value at the last rung, not its best one so far, is too weak.

        The installed engine has no strict mode; this is what W&B's does (wandb/sweeps, pull request 99).
        """
        assert self._metric is not None
        values = run.metric_history(self._metric.name, filter_invalid=True)
        reached = self._reached(run)
        if not reached or -self._metric.sign * values[reached[-1][0]] <= reached[-1][1]:
            return None
        rung, threshold = reached[-1]
        return (
            f"hyperband: {self._metric.name} {values[rung]:.4g} at value {rung + 1}, "
            f"needed {-self._metric.sign * threshold:.4g}"
        )

    def _reached(self, run: Any) -> list[tuple[int, float]]:
        """Return the rungs that a run has reached, with their thresholds; the engine minimizes."""
        assert self._metric is not None
        values = run.metric_history(self._metric.name, filter_invalid=True)
        information = run.early_terminate_info
        rungs = zip(information["bands"], information["thresholds"], strict=True)
        return [(rung, threshold) for rung, threshold in rungs if rung < len(values)]


def _seed(seed: int, trials: int) -> int:
    """Return the seed of one proposal, from 0 to 2**32 - 1."""
    return int(np.random.SeedSequence([seed, trials]).generate_state(1)[0])


def _without_strict(early_terminate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in early_terminate.items() if key != "strict"}


def plain(value: Any) -> Any:
    """Return a value of the engine as a plain Python value instead of numpy's."""
    return value.item() if hasattr(value, "item") else value


def ends(name: str, specification: Mapping[str, Any]) -> list[Any]:
    """Return a parameter's values; of a range its two ends, of an unbounded distribution two extreme quantiles.

    Raises:
        InputError: for a specification of no kind that W&B knows.
    """
    if "value" in specification and len(specification) == 1:
        return [specification["value"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from jsonschema import ValidationError
        from sweeps.config.cfg import schema_violations_from_proposed_config
        from sweeps.params import HyperParameter

        try:
            parameter = HyperParameter(name, dict(specification))
        except ValueError as error:
            raise InputError(f"parameter {error}.") from error
        except ValidationError as error:
            raise InputError(
                f"parameter {name}: {dict(specification)} is unknown to W&B; write value, values, or min and max."
            ) from error
        proposed = {"method": "random", "parameters": {name: dict(specification)}}
        if violations := schema_violations_from_proposed_config(proposed):
            raise InputError(f"parameter {violations[0].removeprefix('Parameter ')}")
        if "values" in specification:
            return list(specification["values"])
        return [plain(parameter.ppf(share)) for share in (1e-9, 1 - 1e-9)]


def check_hyperband(early_terminate: Any) -> int:
    """Check `early_terminate:` and return the first rung: the number of values after which a trial may be stopped.

    Raises:
        InputError: if it is not hyperband, or has no rung.
    """
    if not isinstance(early_terminate, dict) or early_terminate.get("type") != "hyperband":
        raise InputError("early_terminate: needs type: hyperband, W&B's only kind, and min_iter: or max_iter: and s:.")
    if not isinstance(early_terminate.get("strict", False), bool):
        raise InputError(f"early_terminate: strict: {early_terminate['strict']!r} is not known; write true or false.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from jsonschema import ValidationError
        from sweeps.config.schema import fill_validate_early_terminate

        try:
            filled = fill_validate_early_terminate({"early_terminate": _without_strict(early_terminate)})[
                "early_terminate"
            ]
        except ValidationError as error:
            raise InputError(f"early_terminate: {error.message.splitlines()[0]}.") from error
    if "min_iter" in filled:
        return int(filled["min_iter"])
    rungs = [filled["max_iter"] / filled["eta"] ** power for power in range(1, filled["s"] + 1)]
    if not (whole := [int(rung) for rung in rungs if rung >= 1]):
        raise InputError("early_terminate: has no rung; write a larger max_iter or a smaller eta.")
    return min(whole)
