"""A sweep with an account: W&B's server proposes and stops, its agents train, and we watch the run directories."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textrnn.base.errors import InputError
from textrnn.base.files import FileLock
from textrnn.sweeping.agents import Agent, AgentLog, Event
from textrnn.sweeping.processes import Worker
from textrnn.sweeping.sweep_file import Metric
from textrnn.sweeping.sweep_loop import POLL, SweepLoop
from textrnn.sweeping.trials import SweepDirectory, Trial, next_number
from textrnn.tracking.run_directory import LOCK_NAME
from textrnn.tracking.summary import Status

DEATHS = 10
"""A worker ends after this many consecutive deaths of its agents."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Seconds before an agent that died is replaced: twice as long each time, half an hour in all."""


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One start of a trial by an agent."""

    log: AgentLog
    """The agent's."""
    since: float
    """When it started, as files are dated: an older summary is that of an earlier attempt."""
    last_line: str | None = None
    """The line that says why it failed, if it did; None where its agent did not log its end."""


class Seat:
    """A worker's agents, one after another: one dies if W&B doesn't answer at the end of a trial."""

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
        return self.agent.has_ended() and (for_good or self.log.lost_its_sweep())

    def replace_the_dead(self) -> str | None:
        """Start another agent some time after this one has died; return a line to report."""
        if self._again_at is None:
            wait = min(FIRST_WAIT * 2**self.deaths, LONGEST_WAIT)
            self.deaths += 1
            self._again_at = time.monotonic() + wait
            line = f"an agent died: {self.log.last_line()}"
            return line if self.has_ended() else f"{line}; another one starts in {wait:.0f} s"
        if time.monotonic() >= self._again_at:
            self._again_at = None
            self.agent = Agent(self._path, self.log, self._environment)
        return None


class OnlineSweep(SweepLoop):
    """One agent a worker, until W&B says that there are no more trials."""

    def __init__(self, path: str, metric: Metric, directory: SweepDirectory, workers: Sequence[Worker]) -> None:
        super().__init__(metric, directory, workers)
        self._path = path
        self._running: dict[str, Attempt] = {}

    def run(self) -> int:
        """Run agents until there are no more trials, and return the exit code: of the trials, not of the agents.

        Raises:
            InputError: when an agent of an earlier `sweep.py` still runs.
        """
        logs = self._logs()
        # Before anything is settled or started. Nobody else can start one meanwhile: the sweep's directory is ours.
        for log in logs:
            if FileLock(log.lock).is_held():
                raise InputError(
                    f"{log.lock}: an agent of an earlier sweep.py still runs and continues the sweep; "
                    "wait for its end, then type this again."
                )
        self._resume(logs)
        with self._interrupts:
            seats = [
                Seat(self._path, log, {**os.environ, **worker.environment})
                for log, worker in zip(logs, self._workers, strict=False)
            ]
            self._watch(seats)
        if self._interrupts.asked is None and self.stop_reason is None:
            if died := [seat for seat in seats if seat.agent.exit_code]:
                line = died[-1].log.last_line()
                self.stop_reason = f"{len(died)} of {len(seats)} agents died; the last line: {line}"
            elif not self.trials:
                self.stop_reason = f"no agent was given a trial; the last line: {seats[-1].log.last_line()}"
        return self._exit_code

    def _logs(self) -> list[AgentLog]:
        """One a worker, and then those of an earlier `sweep.py` that had more workers."""
        folder = self._directory.path / "agents"
        count = max(len(self._workers), len(list(folder.glob("[0-9]*"))))
        return [AgentLog(folder / str(number), self._path.rpartition("/")[2]) for number in range(count)]

    def _resume(self, logs: Sequence[AgentLog]) -> None:
        """Settle the trials that ended unwatched: agents continue when their `sweep.py` is killed.

        W&B decides whether an interrupted trial is started again.
        """
        attempts = self._replay(logs)
        for trial in self.trials:
            self._directory.read_history(trial, self._metric.name)
        self._report.resumed(self.trials)
        for trial in self.trials:
            if trial.status.ended:
                continue
            attempt = attempts.get(trial.run_id)
            trial.started = trial.started if attempt is None else attempt.since
            if self._is_alive(trial.run_id):  # its agent alone was killed
                self._still_runs(trial)
                self._directory.save(trial)
                continue
            summary = self._summary(trial, 0.0 if attempt is None else attempt.since)
            line = None if attempt is None else attempt.last_line
            if summary is None and trial.status == Status.RUNNING:
                # Where the agent did not log the end either, both were killed: no failure of the trial.
                self._settle(trial, None, None if line is None else Status.FAILED, line, interrupted=False)
            elif summary not in (None, trial.status):
                self._settle(trial, None, summary, line, interrupted=summary == Status.INTERRUPTED)
            else:
                self._directory.save(trial)
        self._failures, self.stop_reason = 0, None  # whoever types --resume has removed their cause

    def _replay(self, logs: Sequence[AgentLog]) -> dict[str, Attempt]:
        """Return the last attempt at each trial that agents began; add new trials, and seconds that nobody counted."""
        attempts: dict[str, Attempt] = {}
        events = [(event, log) for log in logs for event in log.events()]
        for event, log in sorted(events, key=lambda pair: pair[0].when):
            trial = self._known(event.run_id, log)
            if event.last_line is None:
                attempts[event.run_id] = Attempt(log=log, since=event.when)
            elif event.run_id in attempts:
                attempt = attempts[event.run_id]
                attempt.last_line = event.last_line
                begun = trial.started or 0.0
                if attempt.since > begun or (attempt.since == begun and trial.status == Status.RUNNING):
                    trial.seconds += event.when - attempt.since
        return attempts

    def _watch(self, seats: Sequence[Seat]) -> None:
        was_ended = False
        while True:
            ending = was_ended or self._interrupts.asked is not None
            over = all(seat.agent.has_ended() for seat in seats)  # asked first: after it, nothing more is logged
            for seat in seats:
                for event in seat.log.events():
                    if event.last_line is None:
                        seat.deaths, seat.has_worked = 0, True
                        self._begin(event, seat.log)
                    elif event.run_id in self._running:
                        self._end(event.run_id, event.last_line)
            for run_id, attempt in self._running.items():
                self._follow(self._known(run_id, attempt.log))
            if over and (ending or all(seat.has_ended() for seat in seats)):
                break
            self._interrupts.pass_on([seat.agent for seat in seats])
            if self.stop_reason is not None and not was_ended:
                was_ended = True
                for seat in seats:
                    seat.agent.send(signal.SIGTERM)
            elif not ending:
                self._replace_the_dead(seats)
            time.sleep(POLL)
        for run_id, attempt in list(self._running.items()):
            self._end(run_id, attempt.log.last_line())

    def _replace_the_dead(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            if seat.has_ended() or not seat.agent.has_ended() or self._interrupts.asked is not None:
                continue
            for run_id in [run_id for run_id, attempt in self._running.items() if attempt.log is seat.log]:
                if not self._is_alive(run_id):  # else the agent alone died, and its trial continues
                    self._end(run_id, seat.log.last_line())
            busy = any(attempt.log is seat.log for attempt in self._running.values())
            if not busy and (line := seat.replace_the_dead()) is not None:
                self._report.line(line)

    def _known(self, run_id: str, log: AgentLog) -> Trial:
        """Return the trial of a run; a new one if there is none yet."""
        for trial in self.trials:
            if trial.run_id == run_id:
                return trial
        trial = Trial(
            number=next_number(self.trials), run_id=run_id, parameters=log.parameters(run_id), status=Status.RUNNING
        )
        self.trials.append(trial)
        return trial

    def _begin(self, event: Event, log: AgentLog) -> None:
        # It may have been cut short before any value.
        again = any(trial.run_id == event.run_id for trial in self.trials)
        trial = self._known(event.run_id, log)
        trial.status, trial.reason, trial.started = Status.RUNNING, None, event.when
        self._running[trial.run_id] = Attempt(log=log, since=event.when)
        self._directory.save(trial)
        self._report.started(trial, again=again)

    def _end(self, run_id: str, last_line: str) -> None:
        attempt = self._running.pop(run_id)
        trial = self._known(run_id, attempt.log)
        trial.seconds += time.time() - attempt.since
        self._follow(trial)
        summary, interrupted = self._summary(trial, attempt.since), False
        if summary is None:  # its process ended too early to write one
            interrupted = self._interrupts.asked is not None
            summary = None if interrupted else Status.FAILED
        self._settle(trial, None, summary, last_line, interrupted=interrupted or summary == Status.INTERRUPTED)

    def _is_alive(self, run_id: str) -> bool:
        """Whether a run's process holds its run directory."""
        return FileLock(self._directory.path / run_id / LOCK_NAME).is_held()

    def _summary(self, trial: Trial, since: float) -> Status | None:
        """Return the status in the run's `summary.json`; None without one that is as new as the attempt."""
        summary = self._directory.run_directory(trial).summary_json
        if not summary.is_file() or summary.stat().st_mtime < since:
            return None
        return self._directory.summary_status(trial)
