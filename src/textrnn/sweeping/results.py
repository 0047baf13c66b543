"""Results of a sweep: the ranking on the terminal, `leaderboard.csv`, `sweep.png` and `best.yaml`.

A sweep by a metric of the test set only compares its settings and writes no `best.yaml`, as the test set must not
choose. If `seed` is swept, the settings are also compared as after a multirun.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from rich.table import Table
from rich.text import Text

from textrnn.base.console import duration, print_table
from textrnn.base.files import write_atomically, write_csv
from textrnn.config.compose import compose
from textrnn.config.experiment_files import write_experiment
from textrnn.config.schema import Config, differences
from textrnn.multirun.comparison import ComparedRun, different_sources, print_comparison
from textrnn.sweeping.checks import STAND_IN
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.trials import SweepDirectory, Trial, described
from textrnn.tracking.summary import Status
from textrnn.tracking.wandb_internals import sweep_arguments

ROWS = 20
"""Maximum number of trials in the table; leaderboard.csv has all."""
NOT_A_SETTING = ("run_dir", "resume", "test", "tracking")
"""Keys that the best setting doesn't take from the sweep: those of the records, and `test=false`."""


def record(sweep: Sweep, metric: Metric, directory: SweepDirectory, trials: Sequence[Trial]) -> None:
    """Write and print the results; the last lines have the next commands."""
    if not trials:
        return
    varied = sweep.varied()
    print_ranking(trials, metric, varied)
    others = sweep.metrics[1:]
    write_leaderboard(trials, metric, list(sweep.parameters), directory, others)
    if others:
        best = ", ".join(str(trial.number) for trial in undominated(trials, sweep.metrics))
        names = " and ".join(each.name for each in sweep.metrics)
        print(f"Pareto front of {names}: trials {best or 'none'}; the ranking is by {metric.name} alone")
    if varied and any(trial.history for trial in trials):
        from textrnn.sweeping.plots import plot_sweep  # matplotlib takes a second to import

        title = f"sweep {directory.path.name}: {metric.name} of {len(trials)} trials, to {metric.goal}"
        panels = {name: sweep.parameters[name] for name in varied}
        plot_sweep(trials, metric, panels, directory.path / "sweep.png", title=title)
    if "seed" in varied:
        runs = [
            ComparedRun(
                overrides=sweep_arguments(trial.parameters),
                run_dir=directory.run_directory(trial).path,
                done=trial.status == Status.FINISHED,
            )
            for trial in trials
        ]
        print_comparison(directory.path, runs)
    finished = [trial for trial in trials if trial.status == Status.FINISHED and trial.best(metric.sign) is not None]
    if (line := different_sources(directory.run_directory(trial).path for trial in finished)) is not None:
        print(line)
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


def print_ranking(trials: Iterable[Trial], metric: Metric, varied: Sequence[str]) -> None:
    """Print the ranking; on a narrow terminal without the last values, so that the numbers stay whole."""
    order = ranked(trials, metric)
    print_table(*(_ranking(order, metric, varied, left_out=left_out) for left_out in ([], ["last"], ["last", "time"])))


def _ranking(trials: Sequence[Trial], metric: Metric, varied: Sequence[str], *, left_out: Sequence[str]) -> Table:
    """Return the ranking as a table; the settings share a column, which may fold."""
    table = Table(title=f"{metric.name}, {metric.goal}d", title_justify="left", caption_justify="left", show_edge=False)
    columns = [name for name in ("rank", "trial", "status", "best", "last", "time") if name not in left_out]
    for name in columns:
        table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    table.add_column("setting", overflow="fold")
    for rank, trial in enumerate(trials[:ROWS], start=1):
        best = trial.best(metric.sign)
        cells = {
            "rank": str(rank) if trial.status == Status.FINISHED else "",
            "trial": str(trial.number),
            "status": str(trial.status),
            "best": "" if best is None else f"{best:.4f}",
            "last": f"{trial.history[-1]:.4f}" if trial.history else "",
            "time": duration(trial.seconds),
        }
        setting = described({name: trial.parameters[name] for name in varied if name in trial.parameters})
        table.add_row(*(cells[name] for name in columns), Text(setting))
    more = [f"{len(trials) - ROWS} more trials"] if len(trials) > ROWS else []
    if elsewhere := [*more, *left_out]:
        table.caption = f"leaderboard.csv has {' and '.join(elsewhere)}"
    return table


def undominated(trials: Iterable[Trial], metrics: Sequence[Metric]) -> list[Trial]:
    """Return the finished trials that no other one beats in all metrics (the Pareto front), in their order."""
    first, *others = metrics
    points = {
        trial.number: (trial, [first.sign * best, *(each.sign * trial.finals[each.name] for each in others)])
        for trial in trials
        if trial.status == Status.FINISHED
        and (best := trial.best(first.sign)) is not None
        and all(each.name in trial.finals for each in others)
    }

    def beats(other: Sequence[float], values: Sequence[float]) -> bool:
        return other != values and all(theirs >= ours for theirs, ours in zip(other, values, strict=True))

    return [trial for trial, values in points.values() if not any(beats(other, values) for _, other in points.values())]


def write_leaderboard(
    trials: Sequence[Trial],
    metric: Metric,
    parameters: Sequence[str],
    directory: SweepDirectory,
    others: Sequence[Metric] = (),
) -> None:
    """Write the trials to `leaderboard.csv`, the best first; only those that have finished have a rank."""
    columns = ["rank", "trial", "run", "status", f"best {metric.name}", f"last {metric.name}"]
    columns += [*(each.name for each in others), *parameters]
    rows = [
        [
            rank if trial.status == Status.FINISHED else "",
            *(trial.number, trial.run_id, trial.status, trial.best(metric.sign)),
            trial.history[-1] if trial.history else "",
            *(trial.finals.get(each.name, "") for each in others),
            *(trial.parameters.get(name, "") for name in parameters),
            *(round(trial.seconds, 1), directory.run_directory(trial).path, trial.reason),
        ]
        for rank, trial in enumerate(ranked(trials, metric), start=1)
    ]
    write_csv(directory.leaderboard_csv, [*columns, "seconds", "run_dir", "reason"], rows, lineterminator="\n")


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


def _mean(group: Sequence[Trial], metric: Metric) -> float:
    return statistics.fmean(best for trial in group if (best := trial.best(metric.sign)) is not None)


def _write_best(sweep: Sweep, metric: Metric, directory: SweepDirectory, group: Sequence[Trial]) -> None:
    parameters = _without_seed(group[0].parameters)
    config = compose([*sweep.fixed, *sweep_arguments(parameters), STAND_IN])
    values = {
        key: attrgetter(key)(config)
        for key in differences(config, Config())
        if key.partition(".")[0] not in NOT_A_SETTING
    }
    runs = ", ".join(trial.run_id for trial in group)
    header = [
        f"The best setting of sweep {directory.path.name} ({sweep.search}): {metric.name} "
        f"{_mean(group, metric):.4f}{f', mean of {len(group)} seeds' if len(group) > 1 else ''}.",
        f"From {runs}: {described(parameters)}",
        f"  python train.py experiment={directory.shown()}/best.yaml",
    ]
    write_atomically(directory.path / "best.yaml", write_experiment(values, header))
