"""Comparison of a multirun's settings: mean and standard deviation over seeds, as table, CSV and picture."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from textrnn.base import exits as exits
from textrnn.base.console import print_table
from textrnn.base.files import write_atomically
from textrnn.comparing.comparison import compare, shown_p
from textrnn.comparing.predictions import other_reviews, read_predictions
from textrnn.comparing.settings import Setting as Measured
from textrnn.comparing.statistics import Estimate, over_seeds
from textrnn.config.compose import load_config
from textrnn.multirun.jobs import Job, Multirun
from textrnn.tracking.identity import read_identity
from textrnn.tracking.metrics_csv import METRICS
from textrnn.tracking.summary import Status, read_summary

PICTURED = ("test/accuracy", "val/accuracy", "val/perplexity")
"""The metric in `comparison.png`: the first of these that was measured."""


@dataclass(kw_only=True, slots=True)
class ComparedRun:
    """One run among those that are compared."""

    overrides: list[str]
    """Its overrides that vary, such as `model=gru` and `seed=0`."""
    run_dir: Path
    done: bool
    """Whether this job finished; if not, the directory may hold an earlier run."""


@dataclass(kw_only=True, slots=True)
class Setting:
    """Jobs that differ in their seed only."""

    name: str
    """The overrides without the seed, joined; `all` where nothing else varies."""
    seeds: list[int] = field(default_factory=list)
    """Seeds of the finished jobs, each once: a repeated run is no further evidence."""
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    """Final values of each metric by seed."""
    run_dirs: dict[int, Path] = field(default_factory=dict)
    """Directory of the run of each seed that has values."""
    unfinished: int = 0
    """Jobs without a final value: failed, stopped or never started."""
    diverged: int = 0
    """Jobs whose final validation or test is not finite; no mean includes them."""

    def values(self, metric: str) -> list[float]:
        """Final values of a metric, one per seed."""
        return list(self.metrics.get(metric, {}).values())

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN without a value."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float:
        """Sample standard deviation over the seeds; NaN with fewer than two values."""
        values = self.values(metric)
        if len(values) < 2 or not all(map(math.isfinite, values)):  # statistics would end in a traceback
            return math.nan
        return statistics.stdev(values)


def compared_runs(jobs: Sequence[Job]) -> list[ComparedRun]:
    """Return the runs of a multirun's jobs, in Hydra's order, without the overrides that all of them share."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [
        ComparedRun(
            overrides=[override for override in job.overrides if override not in shared],
            run_dir=job.run_dir,
            done=job.exit_code == exits.DONE,
        )
        for job in jobs
    ]


def settings_of(runs: Sequence[ComparedRun]) -> list[Setting]:
    """Group runs by what they vary besides the seed, in the order of their first run.

    Raises:
        InputError: for a damaged `summary.json` or `config.yaml`.
    """
    settings: dict[str, Setting] = {}
    for run in runs:
        name = ", ".join(override for override in run.overrides if not override.startswith("seed="))
        setting = settings.setdefault(name, Setting(name=name or "all"))
        final = _final(run)
        if final is None:
            setting.unfinished += 1
            continue
        seed = load_config(run.run_dir / "config.yaml").seed
        if seed in setting.seeds:
            continue
        setting.seeds.append(seed)
        if any(not math.isfinite(value) for metric, value in final.items() if metric.startswith(("val/", "test/"))):
            setting.diverged += 1
            continue
        setting.run_dirs[seed] = run.run_dir
        for metric, value in final.items():
            setting.metrics.setdefault(metric, {})[seed] = value
    return list(settings.values())


def table(settings: Sequence[Setting], metrics: Sequence[str], *, left_out: Sequence[str] = ()) -> Table:
    """Return the settings as a table: mean ± standard deviation of each metric, and the number of jobs."""
    shown = Table(title_justify="left", show_edge=False, caption_justify="left")
    shown.caption = f"{' and '.join(left_out)}: comparison.csv" if left_out else None
    shown.add_column("setting", overflow="fold")  # cropped names could be equal
    for metric in metrics:
        shown.add_column(metric, justify="right", no_wrap=True)
    shown.add_column("runs", justify="right")
    for setting in settings:
        count = max((len(values) for values in setting.metrics.values()), default=0)
        missing = setting.unfinished + setting.diverged
        runs = f"{count} of {count + missing}" if missing else str(count)
        runs += f", {setting.diverged} diverged" if setting.diverged else ""
        shown.add_row(Text(setting.name), *(_spread(setting, metric) for metric in metrics), runs)
    return shown


def conclude(multirun: Multirun) -> None:
    """End a multirun: print the table of its settings; write `comparison.csv` and `comparison.png` beside its jobs."""
    parent, jobs = multirun.parent, multirun.jobs
    runs = compared_runs(jobs)
    if print_comparison(parent, runs):
        print(f"view: {parent / 'comparison.png'}, {parent / 'comparison.csv'}")
    if (changed := different_sources(run.run_dir for run in runs if run.done)) is not None:
        print(changed)
    multirun.remove_if_unused()
    for job, run in zip(jobs, runs, strict=True):
        if job.exit_code != exits.DONE:
            print(_failure(job, ", ".join(run.overrides)))
    print(f"{sum(job.exit_code == exits.DONE for job in jobs)} of {len(jobs)} runs done: {parent}")


def print_comparison(parent: Path, runs: Sequence[ComparedRun]) -> bool:
    """Write the comparison, print its table and the differences between settings; return whether a run has finished.

    Raises:
        InputError: for a damaged `summary.json`.
    """
    tables, differences = write_comparison(parent, runs)
    if tables:
        print_table(*tables)
        for line in differences.lines():
            print(line)
    return bool(tables)


def write_comparison(parent: Path, runs: Sequence[ComparedRun]) -> tuple[list[Table], "Differences"]:
    """Write `comparison.csv` and `comparison.png` beside the runs; return tables and the differences of settings.

    The first table has all, the second, for narrow terminals, no losses. If no run has finished, nothing is written and
    there are no tables. The picture shows test accuracy, or validation accuracy if no test was made.

    Raises:
        InputError: for a damaged `summary.json`.
    """
    settings = settings_of(runs)
    measured = [metric for metric in METRICS if any(metric in setting.metrics for setting in settings)]
    if not measured:
        return [], Differences(heading="", found={})
    differences = differences_of(settings)
    write_atomically(parent / "comparison.csv", _csv(settings, measured, differences))
    metric = next((name for name in PICTURED if name in measured), None)
    if metric is not None:
        from textrnn.tracking.plots import plot_comparison  # matplotlib takes a second to import

        plot_comparison(
            [setting.name for setting in settings],
            [setting.values(metric) for setting in settings],
            parent / "comparison.png",
            label=metric,
        )
    shown = ("val/loss", "val/accuracy", "val/perplexity", "test/loss", "test/accuracy")
    wanted = [name for name in shown if name in measured]
    losses = [name for name in wanted if name.endswith("/loss")]
    accuracies = [name for name in wanted if name not in losses]
    return [table(settings, wanted), table(settings, accuracies, left_out=losses)], differences


class Difference(NamedTuple):
    """The difference of a setting's metric to that of the first setting."""

    estimate: Estimate
    p: float
    n: int
    """Number of pairs of runs."""


@dataclass(kw_only=True, slots=True)
class Differences:
    """Differences to the first setting, and how they were measured."""

    heading: str
    found: dict[str, Difference]
    """By the setting's name."""

    def lines(self) -> list[str]:
        """Return the heading and a line for each setting; nothing without a difference."""
        lines = [
            f"  {name}: {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), {shown_p(p)}, n = {n}"
            for name, (found, p, n) in self.found.items()
        ]
        return [self.heading, *lines] if lines else []


def differences_of(settings: Sequence[Setting]) -> Differences:
    """Return the differences of all settings to the first one.

    If all runs have predictions of the same reviews, settings are compared review by review, as `textrnn compare` does.
    Runs of different reviews are compared seed by seed, from two seeds on that both settings have.
    """
    first, *others = settings
    metric = next((name for name in PICTURED if name in first.metrics), "")
    minus = f"{metric} minus that of {first.name}"
    others = [setting for setting in others if metric in setting.metrics]
    if not others or not metric:
        return Differences(heading="", found={})
    if (measured := _predictions([first, *others], metric)) is not None:
        found = {
            comparison.setting.name: Difference(comparison.difference, comparison.corrected, comparison.pairs)
            for comparison in compare(measured, measured[0])
        }
        heading = f"{minus}, over reviews and, where n > 1, seeds (95 % interval; p by Holm's method):"
        return Differences(heading=heading, found=found)
    found = {}
    for setting in others:
        ours, theirs = (compared.metrics[metric] for compared in (setting, first))
        by_seed = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if len(by_seed) > 1:
            estimate = over_seeds(by_seed)
            found[setting.name] = Difference(estimate, estimate.p, len(by_seed))
    return Differences(heading=f"{minus}, seed by seed (95 % interval):", found=found)


def _predictions(settings: Sequence[Setting], metric: str) -> list[Measured] | None:
    """Return the settings' predictions; None without them, or for different reviews."""
    folder = f"evaluation-{'validation' if metric.startswith('val/') else 'test'}"
    try:
        measured = [
            Measured(
                name=setting.name,
                by_seed={seed: read_predictions(path / folder) for seed, path in setting.run_dirs.items()},
            )
            for setting in settings
        ]
    except FileNotFoundError:
        return None
    runs = [run for setting in measured for run in setting.by_seed.values()]
    return None if other_reviews(runs) is not None else measured


def _cells(difference: Difference | None) -> list[str]:
    """Return the cells of a difference in `comparison.csv`, empty without one."""
    if difference is None:
        return [""] * 5
    found, p, n = difference
    return [*(f"{number:.6g}" for number in (found.value, found.low, found.high, p)), str(n)]


def _failure(job: Job, overrides: str) -> str:
    name = f"job {job.run_dir.name} ({overrides})"
    if job.exit_code is None:
        return f"{name} was not started"
    if job.exit_code == exits.WRONG_INPUT:
        return f"{name} was refused: wrong input, see above"
    log = job.run_dir / "train.log"
    return f"{name} failed with exit code {job.exit_code}{f'; its log: {log}' if log.is_file() else ''}"


def different_sources(run_dirs: Iterable[Path]) -> str | None:
    """Return a line if the runs are of different source: textrnn was edited or updated between two of them.

    Raises:
        InputError: for a damaged `run.json`.
    """
    found: dict[str, list[Path]] = {}
    for run_dir in run_dirs:
        if (run_dir / "run.json").is_file():
            identity = read_identity(run_dir / "run.json")
            found.setdefault(identity.source, []).append(run_dir)
    if len(found) < 2:
        return None
    parts = [
        f"{len(of_one)} with {read_identity(of_one[0] / 'run.json').described_source()}, such as {of_one[0]}"
        for of_one in found.values()
    ]
    return f"textrnn has changed between the runs that are compared here: {'; '.join(parts)}"


def _final(run: ComparedRun) -> dict[str, float] | None:
    """Return the final metrics of a finished run."""
    if not run.done:
        return None
    try:
        summary = read_summary(run.run_dir / "summary.json")
    except FileNotFoundError:
        return None
    if summary["status"] != Status.FINISHED:
        return None
    return {name: float(summary[name]) for name in METRICS if name in summary}


def _spread(setting: Setting, metric: str) -> str:
    mean, deviation = setting.mean(metric), setting.deviation(metric)
    if math.isnan(mean):
        return "-"
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def _csv(settings: Sequence[Setting], metrics: Sequence[str], differences: Differences) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spreads = [f"{metric} {statistic}" for metric in metrics for statistic in ("mean", "sd")]
    compared = [f"difference{part}" for part in ("", " low", " high", " p", " n")]
    writer.writerow(["setting", "seeds", "unfinished", "diverged", *spreads, *compared])
    for setting in settings:
        numbers = [number for metric in metrics for number in (setting.mean(metric), setting.deviation(metric))]
        cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
        seeds = " ".join(map(str, setting.seeds))
        difference = differences.found.get(setting.name)
        writer.writerow([setting.name, seeds, setting.unfinished, setting.diverged, *cells, *_cells(difference)])
    return text.getvalue()
