"""Shared parts of local and online sweeps: following and settling trials, counting failures, printing progress."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from textrnn.base import exits
from textrnn.base.console import duration
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.processes import Interrupts, Worker, last_line
from textrnn.sweeping.trials import SweepDirectory, Trial, described
from textrnn.tracking.metrics_csv import METRICS
from textrnn.tracking.summary import Status
from textrnn.tracking.wandb_offline import pass_over_empty

POLL = 0.5
"""Seconds between two checks of the trials."""
FAILURES = 3
"""The sweep ends after this many consecutive trials that fail before they log anything."""


def outcome(
    exit_code: int | None, summary: Status | None, early_stop: Path, line: str, *, interrupted: bool
) -> tuple[Status, str | None]:
    """Return a trial's status and, if it was stopped or failed, the reason.

    Args:
        exit_code: None for a process that is not our child.
        summary: The status in `summary.json`. It may be that of an earlier attempt, so it only counts if the exit code
            doesn't contradict it.
        early_stop: A file with the reason why the run was stopped, if it was.
        line: The line of its log that says why the process failed, if it did.
        interrupted: Whether all trials had been sent a signal.
    """
    if exit_code in (exits.DONE, None) and summary == Status.FINISHED:
        return Status.FINISHED, None
    has_reason = early_stop.is_file()
    no_error = summary != Status.FAILED if exit_code is None else exit_code in (exits.DONE, exits.PREEMPTED)
    by_signal = exit_code is not None and exit_code < 0
    if (has_reason and (no_error or by_signal)) or (summary == Status.STOPPED and no_error):
        return Status.STOPPED, early_stop.read_text(encoding="utf-8").strip() if has_reason else None
    if exit_code == exits.DONE:
        reason = f"its summary says {summary}" if summary else "it left no summary.json"
        return Status.FAILED, f"it ended with exit code 0, but {reason}"
    if interrupted or exit_code == exits.INTERRUPTED:
        return Status.INTERRUPTED, None
    if exit_code == -signal.SIGTERM or no_error:  # SIGTERM ends a process that has only begun
        return Status.PREEMPTED, None
    return Status.FAILED, line if exit_code is None else f"exit code {exit_code}: {line}"


def settle(directory: SweepDirectory, trial: Trial, exit_code: int | None, *, interrupted: bool) -> None:
    """Give a trial that has ended its status and save it; the arguments are those of `outcome`."""
    run, log = directory.run_directory(trial), directory.log(trial)
    values = directory.summary(trial)
    summary = Status(values["status"]) if values else None
    if trial.status == Status.RUNNING and trial.started is not None:
        written = [path.stat().st_mtime for path in (log, run.summary_json) if path.exists()]
        ended = time.time() if exit_code is not None else max([trial.started, *written])
        trial.seconds += ended - trial.started
    trial.exit_code = exit_code
    trial.status, trial.reason = outcome(exit_code, summary, run.early_stop, last_line(log), interrupted=interrupted)
    if trial.status == Status.FINISHED:  # before it saw the request to stop
        run.early_stop.unlink(missing_ok=True)
    trial.finals = {name: values[name] for name in METRICS if name in values}
    pass_over_empty(run.path / "wandb", trial.run_id)
    directory.save(trial)


class Report:
    """The lines of a sweep on the terminal, with the best value and the number of reported values of each trial."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._reported: dict[str, int] = {}
        self._best: tuple[float, int] | None = None

    def resumed(self, trials: Iterable[Trial]) -> None:
        """Mark all values so far as reported, by an earlier process."""
        for trial in trials:
            self._reported[trial.run_id] = len(trial.history)
            self._note(trial)

    def started(self, trial: Trial, *, again: bool) -> None:
        """Report that a trial starts, or resumes after an interruption."""
        verb = "resumes" if again else "starts"
        self.line(f"trial {trial.number} ({trial.run_id}) {verb}: {described(trial.parameters)}")

    def progressed(self, trial: Trial) -> None:
        """Report a trial's new values, but not those that a resumed trial logs again."""
        reported = self._reported.get(trial.run_id, 0)
        self._reported[trial.run_id] = max(reported, len(trial.history))
        self._note(trial)
        for step, value in list(zip(trial.steps, trial.history, strict=True))[reported:]:
            self.line(f"trial {trial.number}: {self._metric.name} {value:.4f} at step {step}; {self._so_far()}")

    def ended(self, trial: Trial) -> None:
        """Report a trial's status, best value, time and reason, if any."""
        best = trial.best(self._metric.sign)
        value = "" if best is None else f" with {self._metric.name} {best:.4f}"
        reason = "" if trial.reason is None else f" ({trial.reason})"
        self.line(
            f"trial {trial.number} {trial.status}{value} after {duration(trial.seconds)}{reason}; {self._so_far()}"
        )

    def line(self, text: str) -> None:
        """Print a line immediately, also into a pipe."""
        print(text, flush=True)

    def _note(self, trial: Trial) -> None:
        best = trial.best(self._metric.sign)
        if best is not None and (self._best is None or self._metric.sign * (best - self._best[0]) > 0):
            self._best = best, trial.number

    def _so_far(self) -> str:
        return "no value yet" if self._best is None else f"best so far {self._best[0]:.4f} (trial {self._best[1]})"


class SweepLoop(ABC):
    """A running sweep. Its state is written before it is acted on, so it can be killed at any time."""

    def __init__(self, metric: Metric, directory: SweepDirectory, workers: Sequence[Worker]) -> None:
        self._metric, self._directory, self._workers = metric, directory, workers
        self._report = Report(metric)
        self.trials: list[Trial] = directory.trials(metric.name)
        """All trials so far."""
        self._interrupts = Interrupts()
        self._failures = 0
        self.stop_reason: str | None = None
        """Why the sweep stopped before its end; None if it did not."""
        self.is_over = False
        """Whether W&B starts no more trials, so that the sweep can't be resumed."""

    @abstractmethod
    def run(self) -> int:
        """Run trials until there are no more, and return the exit code."""

    @property
    def _exit_code(self) -> int:
        """Return the first signal's exit code, else that of the trials."""
        if self._interrupts.asked is not None:
            return self._interrupts.exit_code
        done = all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in self.trials)
        return exits.DONE if done and self.stop_reason is None else exits.CRASH

    def _follow(self, trial: Trial) -> bool:
        """Read the trial's `metrics.csv`, report new values, and return whether there are any."""
        changed = self._directory.read_history(trial, self._metric.name)
        if changed:
            self._report.progressed(trial)
        return changed

    def _reached_target(self) -> bool:
        """Whether a trial has reached the metric's target, which ends the sweep."""
        sign, target = self._metric.sign, self._metric.target
        bests = [trial.best(sign) for trial in self.trials]
        return target is not None and any(best is not None and sign * (best - target) >= 0 for best in bests)

    def _deserves_another_start(self, trial: Trial) -> bool:
        """Whether a failed trial is started again: its cause was outside, and is removed before --resume is typed.

        It failed before its first value, or its process was killed, perhaps between a value and its checkpoint.
        """
        return trial.status == Status.FAILED and (not trial.history or trial.was_killed)

    def _still_runs(self, trial: Trial) -> None:
        self._report.line(f"trial {trial.number} ({trial.run_id}) is still running")

    def _ended(self, trial: Trial) -> None:
        """Report a trial that was settled, and count failures in a row."""
        self._report.ended(trial)
        self._failures = self._failures + 1 if trial.status == Status.FAILED and not trial.history else 0
        if self._failures == FAILURES:
            self.stop_reason = (
                f"{FAILURES} trials in a row failed before they logged anything; the last one's reason: {trial.reason}"
            )
