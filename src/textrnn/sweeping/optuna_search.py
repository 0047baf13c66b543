"""Optuna as the engine of a sweep, `scheduler: {engine: optuna}`, by the W&B client's own optimizer for it."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from textrnn.base.errors import InputError
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.trials import Trial
from textrnn.tracking.summary import Status


def check_optuna(sweep: Sweep) -> None:
    """Check that Optuna is installed and can draw all parameters.

    Raises:
        InputError: it isn't, or it can't.
    """
    if find_spec("optuna") is None:
        raise InputError("scheduler: engine: optuna needs Optuna; type pip install optuna, or leave scheduler: out.")
    from wandb.sdk.sweeps.scheduler.optuna import sweep_parameter_to_distribution

    for name, specification in sweep.parameters.items():
        try:
            sweep_parameter_to_distribution(specification)
        except ValueError as error:
            raise InputError(
                f"parameter {name}: Optuna can't draw {specification.get('distribution', specification)}; "
                "write values, uniform, int_uniform or log_uniform_values."
            ) from error


def propose(sweep: Sweep, trials: Sequence[Trial], seed: int | None) -> dict[str, Any] | None:
    """Return the next trial's parameters; None when Optuna has no more.

    The study is made from the trials each time, so that it has no state of its own to lose.

    Args:
        sweep: The sweep.
        trials: All trials so far.
        seed: Seed of this proposal; None: another one each time.
    """
    import optuna
    from wandb.sdk.sweeps.run_state import RunState
    from wandb.sdk.sweeps.scheduler.optimizer import Run, RunConfig, RunWithMetrics
    from wandb.sdk.sweeps.scheduler.optuna import OptunaDeclarativeOptimizer, search_space_from_sweep_config
    from wandb.sdk.sweeps.sweep_info import SweepInfo

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metrics = sweep.metrics
    config = {
        "metrics": [{"name": metric.name, "goal": metric.goal} for metric in metrics],
        "parameters": sweep.parameters,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lists among the values, which Optuna can draw but not store
        directions = [optuna.study.StudyDirection[metric.goal.upper()] for metric in metrics]
        study = optuna.create_study(directions=directions, sampler=optuna.samplers.TPESampler(seed=seed))
        info = SweepInfo(
            id=sweep.path.stem, name=sweep.path.stem, entity="", project="", config=config, controller_run_name=""
        )
        optimizer = OptunaDeclarativeOptimizer(study, search_space_from_sweep_config(sweep.parameters), info)
        for trial in trials:
            parameters = RunConfig.from_values(trial.parameters)
            if not trial.status.ended:
                optimizer.tell_existing_active_run(
                    Run(config=parameters, state=RunState.RUNNING, wandb_run_id=trial.run_id)
                )
                continue
            values = _values(sweep, trial)
            # A trial that was stopped early counts with its best value, as for W&B's engine.
            lost = trial.status == Status.FAILED or len(values) < len(metrics)
            optimizer.tell_existing_finished_run(
                RunWithMetrics(
                    config=parameters,
                    state=RunState.FAILED if lost else RunState.FINISHED,
                    wandb_run_id=trial.run_id,
                    summary_metrics=values,
                    history_metrics=[],
                )
            )
        suggestions = optimizer.ask_n_runs(1)
    return dict(suggestions[0].config.flat_dict()) if suggestions else None


def _values(sweep: Sweep, trial: Trial) -> dict[str, float]:
    """Return the trial's value of each metric: the best of the first one, of the others those of its end."""
    first, *others = sweep.metrics
    values = {metric.name: trial.finals[metric.name] for metric in others if metric.name in trial.finals}
    best = trial.best(first.sign)
    return values if best is None else {first.name: best, **values}
