"""Results of a sweep: the ranking on the terminal, `leaderboard.csv`, `sweep.png` and `best.yaml`.

A sweep by a metric of the test set only compares its settings and writes no `best.yaml`, as the test set must not
choose. If `seed` is swept, the settings are also compared as after a multirun.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from textrnn.base.console import duration
from textrnn.base.files import write_atomically
from textrnn.config.compose import compose
from textrnn.config.experiment_files import write_experiment
from textrnn.config.schema import Config, differences
from textrnn.multirun.comparison import ComparedRun, write_comparison
from textrnn.sweeping.checks import STAND_IN, arguments
from textrnn.sweeping.sweep_file import Metric, Sweep
from textrnn.sweeping.trials import SweepDirectory, Trial, described
from textrnn.tracking.summary import Status

ROWS = 20
"""Maximum number of trials in the table; leaderboard.csv has all."""
NOT_A_SETTING = ("run_dir", "resume", "test", "tracking")
"""Keys that the best setting doesn't take from the sweep: those of the records, and `test=false`."""


def record(sweep: Sweep, metric: Metric, directory: SweepDirectory, trials: Sequence[Trial]) -> None:
    """Write and print the results; the last lines have the next commands."""
    if not trials:
        return
    varied = sweep.varied()
    print_table(trials, metric, varied)
    write_atomically(directory.path / "leaderboard.csv", leaderboard(trials, metric, list(sweep.parameters), directory))
    if varied and any(trial.history for trial in trials):
        from textrnn.sweeping.plots import plot_sweep  # matplotlib takes a second to import

        plot_sweep(trials, metric, {name: sweep.parameters[name] for name in varied}, directory.path / "sweep.png")
    if "seed" in varied:
        runs = [
            ComparedRun(
                overrides=arguments(trial.parameters),
                run_dir=directory.run_directory(trial).path,
                done=trial.status == Status.FINISHED,
            )
            for trial in trials
        ]
        if (comparison := write_comparison(directory.path, runs)) is not None:
            Console().print(comparison)
    finished = [trial for trial in trials if trial.status == Status.FINISHED and trial.best(metric.sign) is not None]
    if not finished:
        print("no trial has finished, so there is no best.yaml")
        return
    if metric.name.startswith("test/"):
        print(f"validation chooses: a sweep by {metric.name} compares its settings and leaves no best.yaml")
        return
    group = best_setting(trials, metric)
    _write_best(sweep, metric, directory, group)
    print(f"to train with the best setting: python train.py experiment={directory.shown()}/best.yaml")


def ranked(trials: Iterable[Trial], metric: Metric) -> list[Trial]:
    """Return finished trials, the best first, then the others, including those that were stopped early."""
    order = [Status.FINISHED, Status.STOPPED]

    def place(trial: Trial) -> tuple[int, bool, float, int]:
        best = trial.best(metric.sign)
        rank = order.index(trial.status) if trial.status in order else len(order)
        return rank, best is None, -metric.sign * (best or 0.0), trial.number

    return sorted(trials, key=place)


def print_table(trials: Iterable[Trial], metric: Metric, varied: Iterable[str]) -> None:
    """Print the ranking; the settings share a column, which may fold, so that the numbers stay whole."""
    trials, varied = ranked(trials, metric), list(varied)
    table = Table(title=f"{metric.name}, {metric.goal}d", title_justify="left", show_edge=False)
    for name in ("rank", "trial", "status", "best", "last", "time"):
        table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    table.add_column("setting", overflow="fold")
    for rank, trial in enumerate(trials[:ROWS], start=1):
        best = trial.best(metric.sign)
        table.add_row(
            str(rank) if trial.status == Status.FINISHED else "",
            str(trial.number),
            trial.status,
            "" if best is None else f"{best:.4f}",
            f"{trial.history[-1]:.4f}" if trial.history else "",
            duration(trial.seconds),
            Text(described({name: trial.parameters[name] for name in varied if name in trial.parameters})),
        )
    if len(trials) > ROWS:
        table.caption = f"and {len(trials) - ROWS} more in leaderboard.csv"
    Console().print(table)


def leaderboard(trials: Sequence[Trial], metric: Metric, parameters: Sequence[str], directory: SweepDirectory) -> str:
    """Return the trials as CSV, the best first; only those that have finished have a rank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    best, last = f"best {metric.name}", f"last {metric.name}"
    writer.writerow(["rank", "trial", "run", "status", best, last, *parameters, "seconds", "run_dir", "reason"])
    for rank, trial in enumerate(ranked(trials, metric), start=1):
        value = trial.best(metric.sign)
        writer.writerow(
            [
                rank if trial.status == Status.FINISHED else "",
                *(trial.number, trial.run_id, str(trial.status)),
                "" if value is None else value,
                trial.history[-1] if trial.history else "",
                *(trial.parameters.get(name, "") for name in parameters),
                *(round(trial.seconds, 1), directory.run_directory(trial).path, trial.reason or ""),
            ]
        )
    return text.getvalue()


def best_setting(trials: Sequence[Trial], metric: Metric) -> list[Trial]:
    """Return the finished trials of the best setting: one, or if `seed` is swept those with the best mean.

    A setting with a failed, diverged or stopped seed ranks behind all others, as a mean over the survivors is biased.
    """

    def finished(trial: Trial) -> bool:
        return trial.status == Status.FINISHED and trial.best(metric.sign) is not None

    settings: dict[bool, list[list[Trial]]] = {True: [], False: []}
    # Finished trials first: they count if a draw was repeated.
    for group in _settings(sorted(trials, key=lambda trial: not finished(trial))).values():
        if through := [trial for trial in group if finished(trial)]:
            settings[len(through) == len(group)].append(through)
    return max(settings[True] or settings[False], key=lambda group: metric.sign * _mean(group, metric))


def _settings(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Group the trials by setting, one per seed: a repeated draw is no further evidence."""
    groups: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        seeds = groups.setdefault(repr(_without_seed(trial.parameters)), {})
        seeds.setdefault(repr(trial.parameters.get("seed")), trial)
    return {setting: list(seeds.values()) for setting, seeds in groups.items()}


def _without_seed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != "seed"}


def _bests(group: Sequence[Trial], metric: Metric) -> list[float]:
    return [best for trial in group if (best := trial.best(metric.sign)) is not None]


def _mean(group: Sequence[Trial], metric: Metric) -> float:
    return statistics.fmean(_bests(group, metric))


def _write_best(sweep: Sweep, metric: Metric, directory: SweepDirectory, group: Sequence[Trial]) -> None:
    parameters = _without_seed(group[0].parameters)
    config = compose([*sweep.fixed, *arguments(parameters), STAND_IN])
    values = {
        key: _value(config, key) for key in differences(config, Config()) if key.partition(".")[0] not in NOT_A_SETTING
    }
    runs = ", ".join(trial.run_id for trial in group)
    header = [
        f"The best setting of sweep {directory.path.name} ({sweep.config['method']}): {metric.name} "
        f"{_mean(group, metric):.4f}{f', mean of {len(group)} seeds' if len(group) > 1 else ''}.",
        f"From {runs}: {described(parameters)}",
        f"  python train.py experiment={directory.shown()}/best.yaml",
    ]
    write_atomically(directory.path / "best.yaml", write_experiment(values, header))


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
