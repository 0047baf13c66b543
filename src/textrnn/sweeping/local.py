"""A sweep without an account: W&B's engine proposes, our own workers train, and early stopping reads `metrics.csv`."""

import os
import signal
import time
from collections.abc import Mapping, Sequence

from textrnn.base.files import write_atomically
from textrnn.config.experiment_files import as_override
from textrnn.config.schema import TrackingConfig
from textrnn.distributed.slurm import TRIAL
from textrnn.sweeping.engine import Engine
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.processes import TrialProcess, Worker, trial_command
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.sweep_loop import POLL, SweepLoop, settle
from textrnn.sweeping.trials import SweepDirectory, Trial, new_id, next_number
from textrnn.tracking.summary import Status

GROUP = "WANDB_RUN_GROUP"


class LocalSweep(SweepLoop):
    """One trial per worker, each in its own process."""

    def __init__(
        self,
        sweep: Sweep,
        metric: Metric,
        directory: SweepDirectory,
        workers: Sequence[Worker],
        environment: Mapping[str, str],
        tracking: TrackingConfig,
    ) -> None:
        super().__init__(metric, directory, workers)
        self._sweep, self._environment, self._tracking = sweep, environment, tracking
        self._engine = Engine(sweep)
        self._running: dict[str, TrialProcess] = {}
        self._exhausted = False

    def run(self) -> int:
        """Run trials until there are no more, and return the exit code."""
        with self._interrupts:
            self._resume()
            while True:
                self._look()
                if not self._interrupts.asked and self.stop_reason is None:
                    self._fill()
                if not self._running:
                    return self._exit_code
                self._interrupts.pass_on(self._running.values())
                time.sleep(POLL)

    def _resume(self) -> None:
        """Resume an earlier process's trials: those that still run, ended meanwhile, or must be continued."""
        self._report.resumed(self.trials)
        for trial in self.trials:
            if trial.status.ended and not self._deserves_another_start(trial):
                continue
            process = TrialProcess.find(self._directory.lock(trial))
            if process is not None:
                self._running[trial.run_id] = process
                self._still_runs(trial)
            elif trial.status == Status.RUNNING:
                self._end(trial, exit_code=None)
            else:
                trial.status = Status.WAITING

    def _look(self) -> None:
        """Read the running trials' metrics, stop the weak ones, and settle those that have ended."""
        changed = False
        for trial in self.trials:
            if trial.run_id not in self._running:
                continue
            process = self._running[trial.run_id]
            ended = process.has_ended()  # before the metrics are read: after it, nothing more is logged
            changed |= self._follow(trial)
            if ended:
                del self._running[trial.run_id]
                self._end(trial, process.exit_code)
        if changed and self._interrupts.asked is None:
            self._stop_weak_ones()

    def _stop_weak_ones(self) -> None:
        for run, reason in self._engine.to_stop(self.trials).items():
            trial = next(trial for trial in self.trials if trial.run_id == run)
            note = self._directory.run_directory(trial).early_stop
            if run in self._running and not note.exists():
                write_atomically(note, reason + "\n")
                self._running[run].send(signal.SIGTERM)

    def _end(self, trial: Trial, exit_code: int | None) -> None:
        interrupted = self._interrupts.asked is not None
        settle(self._directory, trial, exit_code, interrupted=interrupted)
        self._ended(trial)
        if trial.status == Status.PREEMPTED and not interrupted:
            trial.status = Status.WAITING  # the same command continues it
            self._directory.save(trial)

    def _fill(self) -> None:
        """Start trials while there are free workers."""
        while len(self._running) < len(self._workers):
            trial = next((trial for trial in self.trials if trial.status == Status.WAITING), None) or self._draw()
            if trial is None:
                return
            self._start(trial)

    def _draw(self) -> Trial | None:
        """Return the engine's next trial; None when the grid, `run_cap` or the metric's target is reached."""
        full = self._sweep.cap is not None and len(self.trials) >= self._sweep.cap
        if self._exhausted or full or self._reached_target():
            return None
        parameters = self._engine.propose(self.trials)
        if parameters is None:
            self._exhausted = True
            return None
        trial = Trial(number=next_number(self.trials), run_id=new_id(), parameters=parameters)
        self._directory.save(trial)
        self.trials.append(trial)
        return trial

    def _start(self, trial: Trial) -> None:
        taken = {other.worker for other in self.trials if other.run_id in self._running}
        worker = next((number for number in range(len(self._workers)) if number not in taken), 0)
        again = self._directory.run_directory(trial).path.is_dir()
        command = trial_command(
            self._sweep,
            trial.parameters,
            as_override("run_dir", str(self._directory.run_directory(trial).path)),
            *self._names(),
        )
        environment = {**os.environ, **self._environment, **self._workers[worker].environment}
        # No WANDB_SWEEP_ID: the server that `wandb sync` brings the runs to knows no sweep of this name.
        environment.pop("WANDB_SWEEP_ID", None)
        self._directory.begin(trial, worker)
        self._running[trial.run_id] = TrialProcess.start(
            command,
            environment | {"WANDB_RUN_ID": trial.run_id, TRIAL: "1"},
            log=self._directory.log(trial),
            lock=self._directory.lock(trial),
        )
        self._report.started(trial, again=again)

    def _names(self) -> list[str]:
        """Return overrides for the file's W&B project and entity and one group for all trials, unless typed otherwise.

        Typed values have priority over the file, and the file over the environment, as for a registered sweep.
        """
        names = {key: self._sweep.config.get(key) for key in ("project", "entity")}
        if GROUP not in os.environ:
            names["group"] = self._directory.path.name
        typed = {text.partition("=")[0] for text in [*self._sweep.fixed, *self._sweep.parameters]}  # as null, perhaps
        return [
            as_override(f"tracking.{key}", name)
            for key, name in names.items()
            if name and getattr(self._tracking, key) is None and f"tracking.{key}" not in typed
        ]
