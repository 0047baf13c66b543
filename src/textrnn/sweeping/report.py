"""The lines of a sweep on the terminal, one as a trial starts, reports and ends."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from textrnn.base.console import duration
from textrnn.sweeping.sweep_file import Metric
from textrnn.sweeping.trials import Trial, described
from textrnn.tracking.summary import Status

ROWS = 20
"""Trials in the table at most; leaderboard.csv has all."""


class Report:
    """Prints what happens, and remembers the best so far and how much of each trial was told."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._told: dict[str, int] = {}
        self._best: tuple[float, int] | None = None

    def resumed(self, trials: Iterable[Trial]) -> None:
        """Takes over what an earlier process has told."""
        for trial in trials:
            self._told[trial.run] = len(trial.history)
            self._note(trial)

    def started(self, trial: Trial, *, again: bool) -> None:
        """A trial starts, or goes on after an interruption."""
        verb = "goes on" if again else "starts"
        self.line(f"trial {trial.number} ({trial.run}) {verb}: {described(trial.parameters)}")

    def progressed(self, trial: Trial) -> None:
        """A trial has logged the metric; what it logs again after it was resumed has been told."""
        told = self._told.get(trial.run, 0)
        self._told[trial.run] = max(told, len(trial.history))
        self._note(trial)
        for step, value in list(zip(trial.steps, trial.history, strict=True))[told:]:
            self.line(f"trial {trial.number}: {self._metric.name} {value:.4f} at step {step}; {self._so_far()}")

    def ended(self, trial: Trial) -> None:
        """A trial has ended, one way or another."""
        best = trial.best(self._metric.sign)
        value = "" if best is None else f" with {self._metric.name} {best:.4f}"
        reason = "" if trial.reason is None else f" ({trial.reason})"
        self.line(
            f"trial {trial.number} {trial.status}{value} after {duration(trial.seconds)}{reason}; {self._so_far()}"
        )

    def line(self, text: str) -> None:
        """Prints a line at once, also into a pipe."""
        print(text, flush=True)

    def _note(self, trial: Trial) -> None:
        best = trial.best(self._metric.sign)
        if best is not None and (self._best is None or self._metric.sign * (best - self._best[0]) > 0):
            self._best = best, trial.number

    def _so_far(self) -> str:
        return "no value yet" if self._best is None else f"best so far {self._best[0]:.4f} (trial {self._best[1]})"


def ranked(trials: Iterable[Trial], metric: Metric) -> list[Trial]:
    """Finished trials, the best first, then the others: what was stopped early is never taken for finished."""
    order = [Status.FINISHED, Status.STOPPED]

    def place(trial: Trial) -> tuple[int, bool, float, int]:
        best = trial.best(metric.sign)
        rank = order.index(trial.status) if trial.status in order else len(order)
        return rank, best is None, -metric.sign * (best or 0.0), trial.number

    return sorted(trials, key=place)


def print_table(trials: Iterable[Trial], metric: Metric, varied: Iterable[str]) -> None:
    """Prints the ranking; the settings share a column, which may fold, so that the numbers stay whole."""
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
