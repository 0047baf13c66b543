"""A sweep with an account: W&B's server proposes and stops, its agents train, and we watch the sweep's directory."""

import os
import signal
import time
from collections.abc import Mapping, Sequence

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.sweeping.agents import CANCELLED, DELETED, STOPPED, Agent, left_to_us, without_service
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.processes import TrialProcess, Worker, last_line, trial_command
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.sweep_loop import POLL, SweepLoop, settle
from textrnn.sweeping.trials import SweepDirectory, Trial
from textrnn.tracking.run_directory import LOCK_NAME
from textrnn.tracking.summary import Status
from textrnn.tracking.wandb_internals import answer_errors

DEATHS = 10
"""A worker ends after this many consecutive deaths of its agents."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Seconds before an agent that died is replaced: twice as long each time, half an hour in all."""


class Seat:
    """A worker's agents, one after another: one dies if W&B doesn't answer at the end of a trial."""

    def __init__(self, path: str, directory: SweepDirectory, worker: int, environment: Mapping[str, str]) -> None:
        self._path, self._directory, self._environment = path, directory, environment
        self.worker = worker
        self.agent = self._start()
        self.deaths = DEATHS
        """In a row, since an agent was last given a trial: one that never was is not replaced."""
        self._again_at: float | None = None

    def _start(self) -> Agent:
        return Agent.of(self._path, self._directory, self.worker, self._environment)

    @property
    def has_died(self) -> bool:
        """Whether its agent has ended although W&B may have more trials."""
        return self.agent.has_ended() and self.agent.exit_code not in (0, STOPPED, CANCELLED, DELETED)

    def has_ended(self) -> bool:
        """Whether its agent is over, as the sweep is through, or has died for good."""
        return self.agent.has_ended() and (not self.has_died or self.deaths == DEATHS)

    def last_line(self) -> str:
        """Return the line of its agent's log that says why it died."""
        return last_line(self._directory.agent_folder(self.worker) / "agent.log")

    def replace_the_dead(self) -> str | None:
        """Start another agent some time after this one has died; return a line to report."""
        if self._again_at is None:
            wait = min(FIRST_WAIT * 2**self.deaths, LONGEST_WAIT)
            self.deaths += 1
            self._again_at = time.monotonic() + wait
            line = f"an agent died: {self.last_line()}"
            return line if self.has_ended() else f"{line}; another one starts in {wait:.0f} s"
        if time.monotonic() >= self._again_at:
            self._again_at = None
            self.agent = self._start()
        return None


class OnlineSweep(SweepLoop):
    """One agent a worker, until W&B says that there are no more trials. While agents live, they write the trials."""

    def __init__(
        self, sweep: Sweep, path: str, metric: Metric, directory: SweepDirectory, workers: Sequence[Worker]
    ) -> None:
        super().__init__(metric, directory, workers)
        self._sweep, self._path = sweep, path
        self._seats: list[Seat] = []

    def run(self) -> int:
        """Run agents until there are no more trials, and return the exit code: of the trials, not of the agents.

        Raises:
            InputError: when an agent of an earlier `sweep.py` still runs.
        """
        # Before anything is settled or started. Nobody else can start one meanwhile: the sweep's directory is ours.
        for lock in sorted(self._directory.path.glob("agents/*/agent.lock")):
            if FileLock(lock).is_held():
                raise InputError(
                    f"{lock}: an agent of an earlier sweep.py still runs and continues the sweep; "
                    "wait for its end, then type this again."
                )
        self._resume()
        with self._interrupts:
            self._continue_those_left_to_us()
            if self._interrupts.asked is not None or self.stop_reason is not None:
                return self._exit_code
            for number, worker in enumerate(self._workers):
                environment = {**os.environ, **worker.environment}
                self._seats.append(Seat(self._path, self._directory, number, environment))
            self._watch()
        if self._interrupts.asked is None and self.stop_reason is None:
            self._conclude()
        return self._exit_code

    def _resume(self) -> None:
        """Report and settle the trials that ended unwatched: agents continue when their `sweep.py` is killed."""
        self._report.resumed(self.trials)
        ranking = self._directory.leaderboard_csv
        watched = ranking.stat().st_mtime if ranking.exists() else 0.0
        for trial in self.trials:
            if trial.status != Status.RUNNING and self._directory.file(trial).stat().st_mtime > watched:
                self._ended(trial)
        self._settle_abandoned()
        self._failures, self.stop_reason = 0, None  # their cause is removed before --resume is typed

    def _continue_those_left_to_us(self) -> None:
        """Run the trials that W&B gives to no agent again, before any agent is started.

        Raises:
            InputError: W&B doesn't answer.
        """
        unfinished = [
            trial
            for trial in self.trials
            if not trial.status.ended or self._deserves_another_start(trial) or self._lacks_in_wandb(trial)
        ]
        try:
            waiting = left_to_us(self._path, unfinished) if unfinished and self._workers else []
        except answer_errors() as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self._directory.path}: W&B does not answer ({reason}); try again later.") from error
        running: dict[int, tuple[Trial, TrialProcess]] = {}
        while running or waiting:
            if self._interrupts.asked is not None or self.stop_reason is not None:
                waiting.clear()
            for number in range(len(self._workers)):
                if number not in running and waiting:
                    trial = waiting.pop(0)
                    running[number] = trial, self._start(trial, number)
            for number, (trial, process) in list(running.items()):
                ended = process.has_ended()  # before the metrics are read: after it, nothing more is logged
                self._follow(trial)
                if ended:
                    del running[number]
                    settle(self._directory, trial, process.exit_code, interrupted=self._interrupts.asked is not None)
                    self._ended(trial)
            self._interrupts.pass_on([process for _, process in running.values()])
            time.sleep(POLL)

    def _lacks_in_wandb(self, trial: Trial) -> bool:
        """Whether a finished trial has not uploaded everything; started again, it uploads the rest."""
        return trial.status == Status.FINISHED and self._directory.run_directory(trial).wandb_unsent.is_file()

    def _start(self, trial: Trial, worker: int) -> TrialProcess:
        """Start a trial as an agent does."""
        *entity, project, sweep = self._path.split("/")
        names = {"WANDB_PROJECT": project, "WANDB_SWEEP_ID": sweep, "WANDB_RUN_ID": trial.run_id}
        environment = without_service({**os.environ, **self._workers[worker].environment})
        self._directory.begin(trial, worker)
        self._report.started(trial, again=True)
        return TrialProcess.start(
            trial_command(self._sweep, trial.parameters),
            environment | names | ({"WANDB_ENTITY": entity[0]} if entity else {}),
            log=self._directory.log(trial),
            lock=self._directory.lock(trial),
        )

    def _watch(self) -> None:
        was_ended = False
        while True:
            ending = was_ended or self._interrupts.asked is not None
            over = all(seat.agent.has_ended() for seat in self._seats)  # asked first: after it, nothing more is written
            self._look()
            if over and (ending or all(seat.has_ended() for seat in self._seats)):
                break
            self._interrupts.pass_on([seat.agent for seat in self._seats])
            if self.stop_reason is not None and not was_ended:
                was_ended = True
                for seat in self._seats:
                    seat.agent.send(signal.SIGTERM)
            elif not ending:
                self._replace_the_dead()
            time.sleep(POLL)
        self._settle_abandoned()

    def _look(self) -> None:
        """Report what has changed in the sweep's directory since the last look."""
        before = {trial.run_id: trial for trial in self.trials}
        self.trials = self._directory.trials()
        for trial in self.trials:
            known = before.get(trial.run_id)
            if known is not None:
                trial.history, trial.steps = known.history, known.steps
            begun = known is None or known.started != trial.started
            if begun:
                # It may have been cut short before any value.
                self._report.started(trial, again=known is not None)
                for seat in self._seats:
                    seat.deaths = 0 if seat.worker == trial.worker else seat.deaths
            if begun or (known is not None and known.status == Status.RUNNING):
                self._follow(trial)
                if trial.status != Status.RUNNING:
                    self._ended(trial)

    def _replace_the_dead(self) -> None:
        for seat in self._seats:
            if seat.has_ended() or not seat.has_died or self._interrupts.asked is not None:
                continue
            # An agent waits for its trial, unless it was killed.
            if not self._settle_abandoned(seat.worker) and (line := seat.replace_the_dead()) is not None:
                self._report.line(line)

    def _settle_abandoned(self, worker: int | None = None) -> bool:
        """Settle the trials, of all workers or one, whose agent was killed; return whether any still runs.

        A trial may also have ended elsewhere since it was saved: through an agent of another machine, or by hand.
        """
        alive = False
        for trial in self.trials:
            if (trial.status.ended and not trial.was_killed) or worker not in (None, trial.worker):
                continue
            summary = self._directory.summary_status(trial)
            if FileLock(self._directory.run_directory(trial).path / LOCK_NAME).is_held():
                alive = True
                if worker is None:
                    self._still_runs(trial)
            elif trial.status == Status.RUNNING or (summary is not None and summary.ended):
                self._follow(trial)
                settle(self._directory, trial, None, interrupted=False)
                self._ended(trial)
        return alive

    def _conclude(self) -> None:
        """Say why there are no more trials, where that isn't plain."""
        ends = {seat.agent.exit_code for seat in self._seats}
        died = [seat for seat in self._seats if seat.has_died]
        if CANCELLED in ends or DELETED in ends:
            self.is_over = True
            self.stop_reason = f"the sweep was {'cancelled' if CANCELLED in ends else 'deleted'} in W&B"
        elif died:
            self.stop_reason = f"{len(died)} of {len(self._seats)} agents died; the last line: {died[-1].last_line()}"
        elif STOPPED in ends and not self._reached_target():
            self._report.line("the sweep was stopped in W&B before its last trial")
        elif not self.trials and self._seats:
            self.stop_reason = f"no agent was given a trial; the last line: {self._seats[-1].last_line()}"
        if lacking := [str(trial.number) for trial in self.trials if self._lacks_in_wandb(trial)]:
            self._report.line(
                f"W&B may lack parts of trial {', '.join(lacking)}; "
                f"to upload them: python sweep.py --resume {self._directory.shown()}"
            )
