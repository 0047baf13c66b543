"""A sweep with an account: W&B's server proposes and stops, its agents train, and we watch the run directories."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textrnn import exit_codes
from textrnn.sweeping.agents import Agent
from textrnn.sweeping.interrupts import Interrupts
from textrnn.sweeping.local import FAILURES, POLL, gave_up
from textrnn.sweeping.report import Report
from textrnn.sweeping.sweep_file import Metric
from textrnn.sweeping.trials import Status, SweepDirectory, Trial
from textrnn.sweeping.workers import Worker

SAID = {
    "finished": Status.FINISHED,
    "stopped": Status.STOPPED,
    "preempted": Status.PREEMPTED,
    "interrupted": Status.INTERRUPTED,
}
"""Status by what a run's `summary.json` says; anything else has failed."""


@dataclass(kw_only=True, slots=True)
class Running:
    """A trial while an agent runs it."""

    agent: Agent
    since: float
    """When it started, as files are dated: an older summary is that of an earlier attempt."""


class OnlineSweep:
    """One agent a worker, until W&B says that the sweep is through."""

    def __init__(self, path: str, metric: Metric, directory: SweepDirectory, workers: Sequence[Worker]) -> None:
        self._path, self._metric, self._directory, self._workers = path, metric, directory, workers
        self._report = Report(metric)
        self.trials: list[Trial] = directory.trials(metric.name)
        """All trials so far."""
        self._running: dict[str, Running] = {}
        self._failures = 0
        self._interrupts = Interrupts()
        self.broken: str | None = None
        """Why the sweep stopped before its end; None if it did not."""

    def run(self) -> int:
        """Runs agents until there is nothing more to do, and returns the exit code: of the trials, not of the agents.

        Raises:
            InputError: when an agent of an earlier `sweep.py` still runs.
        """
        self._report.resumed(self.trials)
        for trial in self.trials:
            if trial.status == Status.RUNNING:  # an earlier sweep.py was killed; whether it goes on is W&B's to say
                self._settle(trial, self._said(trial, since=0.0) or Status.PREEMPTED, None)
        with self._interrupts:
            agents = [self._agent(number, worker) for number, worker in enumerate(self._workers)]
            self._watch(agents)
        if self._interrupts.asked is not None:
            return self._interrupts.exit_code
        if not self.trials:
            self.broken = f"no agent was given a trial; the last said: {agents[-1].last_words()}"
        good = all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in self.trials)
        return exit_codes.DONE if good and self.trials else exit_codes.CRASH

    def _agent(self, number: int, worker: Worker) -> Agent:
        folder: Path = self._directory.path / "agents" / str(number)
        return Agent(self._path, folder, {**os.environ, **worker.environment})

    def _watch(self, agents: Sequence[Agent]) -> None:
        told_to_end = False
        while True:
            over = all(agent.has_ended() for agent in agents)  # asked first: after it, nothing more is logged
            for agent in agents:
                for run, started in agent.events():
                    if started:
                        self._begin(run, agent)
                    elif run in self._running:
                        self._end(self._trial(run))
            self._look()
            if over:
                break
            self._interrupts.pass_on(agents)
            if self.broken is not None and not told_to_end:
                told_to_end = True
                for agent in agents:
                    agent.send(signal.SIGTERM)
            time.sleep(POLL)
        for run in list(self._running):
            self._end(self._trial(run))

    def _trial(self, run: str) -> Trial:
        return next(trial for trial in self.trials if trial.run == run)

    def _begin(self, run: str, agent: Agent) -> None:
        if all(trial.run != run for trial in self.trials):
            self.trials.append(Trial(number=len(self.trials) + 1, run=run, parameters=agent.parameters(run)))
        trial = self._trial(run)
        trial.status, trial.reason = Status.RUNNING, None
        self._running[run] = Running(agent=agent, since=time.time())
        self._directory.save(trial)
        self._report.started(trial, again=bool(trial.history))

    def _look(self) -> None:
        for run in self._running:
            trial = self._trial(run)
            if self._directory.read_history(trial, self._metric.name):
                self._report.progressed(trial)

    def _end(self, trial: Trial) -> None:
        running = self._running.pop(trial.run)
        trial.seconds += time.time() - running.since
        if self._directory.read_history(trial, self._metric.name):
            self._report.progressed(trial)
        status = self._said(trial, since=running.since)
        if status is None:
            status = Status.FAILED if self._interrupts.asked is None else Status.INTERRUPTED
        self._settle(trial, status, running.agent.last_words())
        failed_at_once = trial.status == Status.FAILED and not trial.history
        self._failures = self._failures + 1 if failed_at_once else 0
        if self._failures == FAILURES:
            self.broken = gave_up(trial)

    def _settle(self, trial: Trial, status: Status, last_words: str | None) -> None:
        trial.status = status
        early_stop = self._directory.run(trial).early_stop
        if status == Status.STOPPED and early_stop.is_file():
            trial.reason = early_stop.read_text(encoding="utf-8").strip()
        elif status == Status.FAILED:
            trial.reason = last_words
        self._directory.save(trial)
        self._report.ended(trial)

    def _said(self, trial: Trial, *, since: float) -> Status | None:
        """What the run itself says of its end; None where it was not able to."""
        summary = self._directory.run(trial).summary_json
        if not summary.is_file() or summary.stat().st_mtime < since:
            return None
        return SAID.get(str(self._directory.summary_status(trial)), Status.FAILED)
