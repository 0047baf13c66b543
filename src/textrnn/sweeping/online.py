"""A sweep with an account: W&B's server proposes and stops, its agents train, and we watch the run directories."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textrnn.base import exits as exits
from textrnn.base.errors import InputError
from textrnn.base.files import FileLock
from textrnn.sweeping.agents import Agent, AgentLog, Event
from textrnn.sweeping.local import FAILURES, POLL, gave_up
from textrnn.sweeping.processes import Interrupts
from textrnn.sweeping.report import Report
from textrnn.sweeping.sweep_file import Metric
from textrnn.sweeping.trials import SweepDirectory, Trial, next_number
from textrnn.sweeping.workers import Worker
from textrnn.tracking.run_directory import LOCK_NAME
from textrnn.tracking.summary import Status

SAID = {
    "finished": Status.FINISHED,
    "stopped": Status.STOPPED,
    "preempted": Status.PREEMPTED,
    "interrupted": Status.INTERRUPTED,
}
"""Status by what a run's `summary.json` says; anything else has failed."""
DEATHS = 10
"""So many deaths of a worker's agents in a row end its work."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Seconds before an agent that died is replaced: twice as long each time, half an hour in all."""


@dataclass(kw_only=True, slots=True)
class Running:
    """A trial while an agent runs it."""

    log: AgentLog
    """Of its agent."""
    since: float
    """When it started, as files are dated: an older summary is that of an earlier attempt."""


class Seat:
    """A worker's agents, one after another: one dies where W&B doesn't answer it when a trial has ended."""

    def __init__(self, path: str, log: AgentLog, environment: Mapping[str, str]) -> None:
        self._path, self.log, self._environment = path, log, environment
        self.agent = Agent(path, log, environment)
        self.has_worked = False
        """Whether an agent was given a trial: one that never was is not replaced."""
        self.deaths = 0
        """In a row."""
        self._again_at: float | None = None

    def has_ended(self) -> bool:
        """Whether its agent is over, as the sweep is through, or has died for good."""
        for_good = not self.agent.exit_code or not self.has_worked or self.deaths == DEATHS
        return self.agent.has_ended() and (for_good or self.log.tells_of_no_sweep())

    def replace_the_dead(self) -> str | None:
        """Starts another agent some time after this one has died; what there is to tell of it."""
        if self._again_at is None:
            wait = min(FIRST_WAIT * 2**self.deaths, LONGEST_WAIT)
            self.deaths += 1
            self._again_at = time.monotonic() + wait
            told = f"an agent died: {self.log.last_words()}"
            return told if self.has_ended() else f"{told}; another one starts in {wait:.0f} s"
        if time.monotonic() >= self._again_at:
            self._again_at = None
            self.agent = Agent(self._path, self.log, self._environment)
        return None


@dataclass(kw_only=True, slots=True)
class Attempt:
    """What the agents' logs say of one start of a trial."""

    since: float = 0.0
    last_words: str | None = None
    """None where its agent did not see it end."""


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
        logs = self._logs()
        # Before anything is settled or started. Nobody else can start one meanwhile: the sweep's directory is ours.
        for log in logs:
            if FileLock(log.lock).is_held():
                raise InputError(
                    f"{log.lock}: an agent of an earlier sweep.py still runs and goes on with the sweep; "
                    "wait for its end, then type this again."
                )
        self._take_up(logs)
        with self._interrupts:
            seats = [
                Seat(self._path, log, {**os.environ, **worker.environment})
                for log, worker in zip(logs, self._workers, strict=False)
            ]
            self._watch(seats)
        if self._interrupts.asked is not None:
            return self._interrupts.exit_code
        died = [seat for seat in seats if seat.agent.exit_code]
        if died and self.broken is None:
            self.broken = f"{len(died)} of {len(seats)} agents died; the last said: {died[-1].log.last_words()}"
        if self.broken is not None:
            return exits.CRASH
        if not self.trials:
            self.broken = f"no agent was given a trial; the last said: {seats[-1].log.last_words()}"
        good = all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in self.trials)
        return exits.DONE if good and self.trials else exits.CRASH

    def _logs(self) -> list[AgentLog]:
        """One a worker, and then those of an earlier `sweep.py` that had more workers."""
        folder = self._directory.path / "agents"
        count = max(len(self._workers), len(list(folder.glob("[0-9]*"))))
        return [AgentLog(folder / str(number), self._path.rpartition("/")[2]) for number in range(count)]

    def _take_up(self, logs: Sequence[AgentLog]) -> None:
        """Takes up what became of the trials while nobody watched: agents go on when their `sweep.py` is killed.

        Whether a trial that was interrupted is handed out again is W&B's to say.
        """
        last = self._replay(logs)
        for trial in self.trials:
            self._directory.read_history(trial, self._metric.name)
        self._report.resumed(self.trials)
        for trial in self.trials:
            if trial.status.ended:
                continue
            attempt = last.get(trial.run, Attempt())
            trial.started = attempt.since or trial.started
            if FileLock(self._directory.run(trial).path / LOCK_NAME).is_held():  # its agent alone was killed
                self._report.line(f"trial {trial.number} ({trial.run}) is still running")
                self._directory.save(trial)
                continue
            status = self._said(trial, since=attempt.since)
            if status is None and trial.status == Status.RUNNING:
                # Without a word from its agent either, both were killed.
                status = Status.PREEMPTED if attempt.last_words is None else Status.FAILED
            if status in (None, trial.status):
                self._directory.save(trial)
            else:
                self._settle(trial, status, attempt.last_words)

    def _replay(self, logs: Sequence[AgentLog]) -> dict[str, Attempt]:
        """The last attempt at each trial that agents began; adds trials that are new and seconds nobody counted."""
        attempts: dict[str, Attempt] = {}
        events = [(event, log) for log in logs for event in log.events()]
        for event, log in sorted(events, key=lambda pair: pair[0].when):
            trial = self._known(event.run, log)
            if event.last_words is None:
                attempts[event.run] = Attempt(since=event.when)
            elif event.run in attempts:
                attempt = attempts[event.run]
                attempt.last_words = event.last_words
                begun = trial.started or 0.0
                if attempt.since > begun or (attempt.since == begun and trial.status == Status.RUNNING):
                    trial.seconds += event.when - attempt.since
        return attempts

    def _watch(self, seats: Sequence[Seat]) -> None:
        told_to_end = False
        while True:
            ending = told_to_end or self._interrupts.asked is not None
            over = all(seat.agent.has_ended() for seat in seats)  # asked first: after it, nothing more is logged
            for seat in seats:
                for event in seat.log.events():
                    if event.last_words is None:
                        seat.deaths, seat.has_worked = 0, True
                        self._begin(event, seat.log)
                    elif event.run in self._running:
                        self._end(self._known(event.run, seat.log), event.last_words)
            self._look()
            if over and (ending or all(seat.has_ended() for seat in seats)):
                break
            self._interrupts.pass_on([seat.agent for seat in seats])
            if self.broken is not None and not told_to_end:
                told_to_end = True
                for seat in seats:
                    seat.agent.send(signal.SIGTERM)
            elif not ending:
                self._replace_the_dead(seats)
            time.sleep(POLL)
        for run, running in list(self._running.items()):
            self._end(self._known(run, running.log), running.log.last_words())

    def _replace_the_dead(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            if seat.has_ended() or not seat.agent.has_ended() or self._interrupts.asked is not None:
                continue
            for run in [run for run, running in self._running.items() if running.log is seat.log]:
                # Of which it couldn't say any more that it ended; where the agent alone was killed, it goes on.
                if not FileLock(self._directory.path / run / LOCK_NAME).is_held():
                    self._end(self._known(run, seat.log), seat.log.last_words())
            busy = any(running.log is seat.log for running in self._running.values())
            if not busy and (told := seat.replace_the_dead()) is not None:
                self._report.line(told)

    def _known(self, run: str, log: AgentLog) -> Trial:
        """The trial of a run, which is new if it is not among them."""
        for trial in self.trials:
            if trial.run == run:
                return trial
        trial = Trial(number=next_number(self.trials), run=run, parameters=log.parameters(run), status=Status.RUNNING)
        self.trials.append(trial)
        return trial

    def _begin(self, event: Event, log: AgentLog) -> None:
        again = any(trial.run == event.run for trial in self.trials)  # it may have been cut short before any value
        trial = self._known(event.run, log)
        trial.status, trial.reason, trial.started = Status.RUNNING, None, event.when
        self._running[trial.run] = Running(log=log, since=event.when)
        self._directory.save(trial)
        self._report.started(trial, again=again)

    def _look(self) -> None:
        for run, running in self._running.items():
            trial = self._known(run, running.log)
            if self._directory.read_history(trial, self._metric.name):
                self._report.progressed(trial)

    def _end(self, trial: Trial, last_words: str) -> None:
        running = self._running.pop(trial.run)
        trial.seconds += time.time() - running.since
        if self._directory.read_history(trial, self._metric.name):
            self._report.progressed(trial)
        status = self._said(trial, since=running.since)
        if status is None:
            status = Status.FAILED if self._interrupts.asked is None else Status.INTERRUPTED
        self._settle(trial, status, last_words)
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
