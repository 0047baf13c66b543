"""Trials and the directory of a sweep: `runs/SWEEP`, with one small file per trial.

sweep.yaml            the sweep, itself a sweep file, with the overrides typed beside the one that it came from
typed.json            those overrides
trials/RUN.json       parameters, status and exit code
trials/RUN.log        output of the trial
trials/RUN.lock       without an account: the pid of its process, which holds a lock on the file
agents/N/             with an account: worker N's agents
RUN/                  the trial's run directory
leaderboard.csv sweep.png best.yaml     the results
"""

import json
import os
import secrets
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.base.locks import FileLock
from textrnn.config.overrides import first_line
from textrnn.sweeping.processes import begin_again
from textrnn.sweeping.sweep_file import Sweep
from textrnn.tracking.identity import ID_LENGTH
from textrnn.tracking.metrics_csv import read_metrics
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import Status, read_summary


@dataclass(kw_only=True, slots=True)
class Trial:
    """One setting and its result."""

    number: int
    """From 1, in the order in which they were drawn."""
    run_id: str
    parameters: dict[str, Any]
    status: Status = Status.WAITING
    worker: int | None = None
    """The worker that it runs on."""
    started: float | None = None
    """When its process last started, in seconds since 1970."""
    seconds: float = 0.0
    """Wall-clock seconds in which it ran."""
    exit_code: int | None = None
    """Exit code of its last process, negative for a signal; None where nobody waited for the process."""
    reason: str | None = None
    """The reason of its stop, or the last line of a failed trial."""
    finals: dict[str, float] = field(default_factory=dict)
    """Final values of the run's metrics, from its `summary.json`."""
    history: list[float] = field(default_factory=list)
    """The metric's values so far; read from the run directory."""
    steps: list[int] = field(default_factory=list)
    """Their global steps."""

    def best(self, sign: int) -> float | None:
        """Return the best value of the metric; None before the first."""
        comparable = [value for value in self.history if value == value]
        return max(comparable, key=lambda value: sign * value) if comparable else None

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended its process, and nobody had asked it to end."""
        return self.status == Status.FAILED and self.exit_code is not None and self.exit_code < 0

    def to_json(self) -> str:
        """Return the content of its file; the history stays in the run directory."""
        kept = {"run" if name == "run_id" else name: value for name, value in asdict(self).items()}
        del kept["history"], kept["steps"]
        return json.dumps(kept, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the trial that `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: for any other text.
        """
        values = json.loads(text)
        return cls(run_id=values.pop("run"), status=Status(values.pop("status")), **values)


class SweepDirectory:
    """The directory of one sweep, for one `sweep.py` at a time, by a lock that ends with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")

    @classmethod
    def create(cls, sweep: Sweep, online: str | None = None) -> Self:
        """Make runs/SWEEP, with a copy of the sweep; `online` is its path at W&B, if it has one.

        Raises:
            InputError: if the directory can't be written.
        """
        directory = cls(Path("runs", new_id() if online is None else online.rpartition("/")[2]))
        try:
            (directory.path / "trials").mkdir(parents=True, exist_ok=True)
            directory.acquire()
            if online is not None:  # first, or a sweep that is killed here would be resumed without an account
                write_atomically(directory.registered, online + "\n")
            write_atomically(directory.typed_json, json.dumps(sweep.typed) + "\n")
            directory.write(sweep)
        except OSError as error:
            directory.release()
            raise InputError(f"{directory.path} can't be made ({error.strerror}: {error.filename}).") from error
        return directory

    @staticmethod
    def check() -> None:
        """Check whether `create` can make a directory here, without making one.

        Raises:
            InputError: where it can't.
        """
        runs = Path("runs")
        if (runs.exists() or runs.is_symlink()) and not runs.is_dir():
            raise InputError(f"{runs.absolute()} is not a folder, but a sweep makes its directory in it; move it away.")
        folder = runs if runs.exists() else Path()
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder.absolute()} is not writable; run sweep.py where it can make runs/SWEEP.")

    def write(self, sweep: Sweep) -> None:
        """Write `sweep.yaml`."""
        write_atomically(self.sweep_yaml, yaml.safe_dump(sweep.config, sort_keys=False, allow_unicode=True))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing directory, named by its path or by the sweep's id.

        Its path is runs/SWEEP if that is below the working directory, else absolute.

        Raises:
            InputError: where there is none, or another process has it.
        """
        found = (path if path.is_dir() else Path("runs", path)).absolute()
        here = Path("runs", found.name)
        directory = cls(here if here.is_dir() and here.samefile(found) else found)
        try:
            there = directory.sweep_yaml.is_file()
        except OSError as error:
            raise InputError(f"--resume {path}: can't be read ({error.strerror}: {error.filename}).") from error
        if not there:
            raise InputError(f"--resume {path}: there is no sweep; type the directory that sweep.py named, runs/SWEEP.")
        directory.acquire()
        return directory

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InputError: where another process has it, or the disk refuses.
        """
        try:
            acquired = self._lock.acquire(blocking=False)
        except OSError as error:
            raise InputError(f"{self.path} can't be used ({error.strerror}: {error.filename}).") from error
        if not acquired:
            raise InputError(f"{self.path} is in use: another sweep.py runs this sweep; wait until it ends.")

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    @property
    def sweep_yaml(self) -> Path:
        """The sweep, with what was typed."""
        return self.path / "sweep.yaml"

    @property
    def typed_json(self) -> Path:
        """The overrides typed beside the sweep file."""
        return self.path / "typed.json"

    @property
    def leaderboard_csv(self) -> Path:
        """The ranking, written when a `sweep.py` ends."""
        return self.path / "leaderboard.csv"

    @property
    def registered(self) -> Path:
        """The sweep's path at W&B, ENTITY/PROJECT/ID, if it is one of W&B's."""
        return self.path / "wandb-sweep"

    def typed(self) -> list[str]:
        """Return the overrides typed beside the sweep file.

        Raises:
            InputError: where that can't be read.
        """
        try:
            return [str(text) for text in json.loads(self.typed_json.read_text(encoding="utf-8"))]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise InputError(f"{self.typed_json} can't be read ({reason}); leave the sweep file out.") from error

    def run_directory(self, trial: Trial) -> RunDirectory:
        """Return the trial's run directory, which its process makes."""
        return RunDirectory.join(self.path / trial.run_id)

    def log(self, trial: Trial) -> Path:
        """Return the path of the trial's log."""
        return self.path / "trials" / f"{trial.run_id}.log"

    def lock(self, trial: Trial) -> Path:
        """Return the path of the file with the pid of the trial's process, which is locked while that runs."""
        return self.path / "trials" / f"{trial.run_id}.lock"

    def agent_folder(self, worker: int) -> Path:
        """Return the folder of a worker's agents: `agent.log`, and `agent.lock`, held while one of them lives."""
        return self.path / "agents" / str(worker)

    def begin(self, trial: Trial, worker: int) -> None:
        """Save that a process of the trial starts now, and separate its output from that of the process before."""
        trial.status, trial.reason, trial.exit_code = Status.RUNNING, None, None
        trial.worker, trial.started = worker, time.time()
        self.save(trial)
        begin_again(self.log(trial))

    def file(self, trial: Trial) -> Path:
        """Return the path of the file that `save` writes."""
        return self.path / "trials" / f"{trial.run_id}.json"

    def save(self, trial: Trial) -> None:
        """Write the trial's file."""
        write_atomically(self.file(trial), trial.to_json())

    def trials(self, metric: str | None = None) -> list[Trial]:
        """Return all trials, in the order in which they were drawn, with their histories of `metric`.

        Raises:
            InputError: naming the file of a trial that is damaged.
        """
        found = [_read_trial(path) for path in (self.path / "trials").glob("[!.]*.json")]
        if metric is not None:
            for trial in found:
                self.read_history(trial, metric)
        return sorted(found, key=lambda trial: trial.number)

    def read_history(self, trial: Trial, metric: str) -> bool:
        """Read the trial's history from its `metrics.csv`; return whether it changed."""
        try:
            rows = [row for row in read_metrics(self.run_directory(trial).metrics_csv) if metric in row]
        except FileNotFoundError:
            return False  # it has not begun
        except InputError:
            return False  # a row is being written; the next look finds it whole
        history = [float(row[metric]) for row in rows]
        changed = history != trial.history
        trial.history = history
        trial.steps = [int(row["step"]) for row in rows]
        return changed

    def summary(self, trial: Trial) -> dict[str, Any]:
        """Return the content of the run's `summary.json`; {} without one.

        Raises:
            InputError: it is damaged.
        """
        try:
            return read_summary(self.run_directory(trial).summary_json)
        except FileNotFoundError:
            return {}

    def summary_status(self, trial: Trial) -> Status | None:
        """Return the status in the run's `summary.json`; None without one.

        Raises:
            InputError: it is damaged.
        """
        values = self.summary(trial)
        return Status(values["status"]) if values else None

    def shown(self) -> str:
        """Return the path as a user would type it."""
        return str(self.path)


def next_number(trials: Sequence[Trial]) -> int:
    """Return the number of the next trial; a trial's file may have been moved away."""
    return 1 + max((trial.number for trial in trials), default=0)


def _read_trial(path: Path) -> Trial:
    try:
        return Trial.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}).") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {first_line(error)}); repair it, or move it away "
            "to continue the sweep without this trial."
        ) from error


def new_id() -> str:
    """Return an id like W&B's own: eight characters of a-z and 0-9."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(ID_LENGTH))


def described(parameters: Mapping[str, Any]) -> str:
    """Return parameters in a readable form: `model=gru optimizer.lr=0.00123`."""
    return " ".join(f"{key}={shortened(value)}" for key, value in parameters.items())


def shortened(value: Any) -> str:
    """Return a value in a readable form: floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
