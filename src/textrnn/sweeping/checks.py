"""Check the values of a sweep file: each is typed as an agent types it, and composed into a run's configuration."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from textrnn.base.errors import InputError
from textrnn.config.compose import compose
from textrnn.config.overrides import check_override, parse_overrides
from textrnn.config.schema import MONITORS, Config, TrainerConfig
from textrnn.sweeping.engine import Engine, check_hyperband, ends
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.optuna_search import check_optuna
from textrnn.sweeping.sweep_file import OWN_KEYS, Sweep
from textrnn.tracking.wandb_internals import sweep_arguments

COMBINATIONS = 32
"""A grid of at most so many combinations is composed whole, a larger one value by value."""
STAND_IN = "run_dir=runs/SWEEP/TRIAL"
"""Stands for the run directory, which each trial has for itself."""


def check_values(sweep: Sweep) -> Config:
    """Compose every value of the file (of a range, its ends) and return the first trial's configuration.

    Raises:
        InputError: with the file and the parameter.
    """
    try:
        return _check(sweep)
    except InputError as error:
        raise InputError(f"{sweep.path}: {error}") from error


def _check(sweep: Sweep) -> Config:
    choices = {name: ends(str(name), specification) for name, specification in sweep.parameters.items()}
    for name, values in choices.items():
        for value in values:
            _check_text(name, value)
    first = {name: values[0] for name, values in choices.items()}
    base = _compose(sweep, first)
    for name, values in choices.items():
        configs = [base, *(_compose(sweep, {**first, name: value}, name) for value in values[1:])]
        for (left, config), (right, other) in itertools.combinations(zip(values, configs, strict=True), 2):
            if left != right and config == other:
                raise InputError(
                    f"parameter {name}: {left} and {right} make the same run; is it fixed by {' '.join(sweep.fixed)}?"
                )
    if sweep.search == "grid" and math.prod(map(len, choices.values())) <= COMBINATIONS:
        for combination in itertools.product(*choices.values()):
            _compose(sweep, dict(zip(choices, combination, strict=True)))
    if sweep.search == "bayes":
        _check_bayes(sweep)
    if sweep.search == "optuna":
        check_optuna(sweep)
    for metric in sweep.metrics:
        _check_logged(sweep, metric, base)
    if "early_terminate" in sweep.config:
        _check_rungs(sweep, base)
    Engine(sweep).propose([])
    return base


def _check_text(name: str, value: Any) -> None:
    """Refuse a value that Hydra reads as another one when an agent has typed it."""
    if name == "resume" or name in OWN_KEYS or name.startswith("hydra"):
        raise InputError(f"parameter {name}: is not a setting to search; each trial has its own.")
    if value is None:
        raise InputError(
            f"parameter {name}: null arrives as the text None; write values, or fix it in command: instead."
        )
    if isinstance(value, dict):
        raise InputError(f"parameter {name}: {value} is a mapping; sweep its keys by their dotted names.")
    if not isinstance(value, bool | int | float | str | list):
        raise InputError(f"parameter {name}: YAML reads {value} as a {type(value).__name__}; write a number or a text.")
    (text,) = sweep_arguments({name: value})
    try:
        (override,) = parse_overrides([text])
    except InputError as error:
        raise InputError(
            f"parameter {name}: {value!r} can't be typed on a command line; use letters, digits and . _ - / : in texts."
        ) from error
    try:
        check_override(override, multirun=True)
    except InputError as error:
        raise InputError(f"parameter {name}: {error}") from error
    read = None if override.is_sweep_override() else override.value()
    if "${" in text or type(read) is not type(value) or read != value:
        arrives = "several values" if override.is_sweep_override() else f"the {type(read).__name__} {read}"
        hint = "write it with a decimal point, such as 1.0e-3" if isinstance(read, float) else "write another one"
        raise InputError(f"parameter {name}: the {type(value).__name__} {value!r} arrives as {arrives}; {hint}.")


def _compose(sweep: Sweep, parameters: Mapping[str, Any], name: str | None = None) -> Config:
    typed = sweep_arguments(parameters)
    try:
        config = compose([*sweep.fixed, *typed, STAND_IN])
        _check_chosen(sweep, config)
        return config
    except InputError as error:
        # The sentence names the place in the file, whatever else it says.
        named = name or next((key for key in parameters if str(key) in str(error)), None)
        where = "what all trials share" if named is None else f"parameter {named}"
        raise InputError(f"{where}: {error}") from error


def _check_chosen(sweep: Sweep, config: Config) -> None:
    """Refuse to rank trials by the best value of one metric if another one chooses the epoch.

    A trial's `best.ckpt` and final metrics would be of another epoch than its rank.
    """
    name, monitor = "" if sweep.metric is None else sweep.metric.name, config.early_stopping.monitor
    if not name.startswith("val/") or name == monitor:
        return
    monitors = MONITORS[config.objective]
    if name in monitors:
        hint = f"type early_stopping.monitor={name}"
    else:
        hint = f"write {monitor} as the metric's name, or the other one of {' and '.join(monitors)}"
    raise InputError(f"metric: {name} is not what chooses a trial's epoch, early_stopping.monitor={monitor}; {hint}.")


def _check_bayes(sweep: Sweep) -> None:
    if not sweep.varied():
        raise InputError("parameters: method: bayes needs one that varies; write values, or min and max.")
    for name, specification in sweep.parameters.items():
        if "probabilities" in specification:
            raise InputError(f"parameter {name}: probabilities: don't go with method: bayes; write method: random.")


def _check_logged(sweep: Sweep, metric: Metric, config: Config) -> None:
    """Refuse a metric that this configuration never logs."""
    name = metric.name
    split = name.partition("/")[0]
    if split == "test" and not config.test:
        monitor = config.early_stopping.monitor
        raise InputError(f"metric: {name} is never logged with test=false; write test=true, or select by {monitor}.")
    if split == "test" and sweep.search in ("bayes", "optuna"):
        raise InputError(
            f"method: {sweep.search} would search by {name}, and validation chooses; use a metric such as val/loss."
        )
    if split == "val" and (config.trainer.limit_val_batches == 0 or config.trainer.fast_dev_run):
        raise InputError(f"metric: {name} is never logged: validation is off; leave out trainer.limit_val_batches.")


def _check_rungs(sweep: Sweep, config: Config) -> None:
    """Refuse early stopping by a metric that isn't logged often enough."""
    assert sweep.metric is not None, "the file's reader has refused early_terminate: without a metric"
    name = sweep.metric.name
    split = name.partition("/")[0]
    if split == "test":
        raise InputError(
            f"early_terminate: {name} is only logged when a trial has ended; use a metric such as val/loss."
        )
    rung = check_hyperband(sweep.config["early_terminate"])
    validations = _validations(config.trainer) if split == "val" else None
    if validations is not None and validations <= rung:
        raise InputError(
            f"early_terminate: stops trials after more than {rung} values, and {name} has {validations} in a trial; "
            "write a smaller min_iter, or validate more often, such as trainer.val_check_interval=0.25."
        )


def _validations(trainer: TrainerConfig) -> int | None:
    """Return the number of validations in a whole trial; None if it depends on the data."""
    interval = 1.0 if trainer.val_check_interval is None else trainer.val_check_interval
    if trainer.max_epochs in (None, -1) or not isinstance(interval, float):
        return None
    assert trainer.max_epochs is not None
    return int(trainer.max_epochs / (trainer.check_val_every_n_epoch or 1)) * int(1 / interval)
