"""The directory of one run: its lock and its files."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from textrnn.base.errors import InputError
from textrnn.base.files import TEMPORARY_SUFFIX, make_folders, remove_folders
from textrnn.base.locks import FileLock
from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity, model_kind

LOCK_NAME = ".lock"


def default_run_dir(config: Config, identity: RunIdentity) -> Path:
    """Return runs/<stamp>-<cell>-s<seed>-<id>, or in a W&B agent runs/<WANDB_SWEEP_ID>/<WANDB_RUN_ID>.

    The stamp is local time to the second. In a sweep the directory depends on the trial alone, so that a restarted
    trial finds it; in a SLURM batch job it depends on the job and the configuration, for the same reason:
    runs/slurm-<job>-<cell>-s<seed>-<digest>.
    """
    if identity.sweep_id and os.environ.get("WANDB_RUN_ID"):
        return Path("runs", identity.sweep_id, identity.id)
    if identity.slurm_job is not None:
        settings = json.dumps(asdict(replace(config, resume=None)), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:6]
        return Path("runs", f"slurm-{identity.slurm_job}-{model_kind(config)}-s{config.seed}-{digest}")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs", f"{stamp}-{model_kind(config)}-s{config.seed}-{identity.id}")


class RunDirectory:
    """A run directory that this process has locked until `release()` or its end, however it ends.

    The lock on `.lock` ends with the process, so a killed run leaves nothing to clean up.
    """

    def __init__(self, path: Path, lock: FileLock | None, *, fresh: bool = False, made: Sequence[Path] = ()) -> None:
        self.path = path
        self._lock = lock
        self._fresh = fresh
        self._made = made

    @classmethod
    def claim(cls, path: Path, *, resume: bool) -> Self:
        """Make `path` and its parents and lock it; with `resume` it may already hold a run.

        Raises `InputError` if the directory is in use, not empty without `resume`, or can't be made or written. Then
        the file system is unchanged.
        """
        made: list[Path] = []
        try:
            made = make_folders(path)
            if not os.access(path, os.W_OK | os.X_OK):
                raise InputError(f"run_dir {str(path)!r} is not writable: choose another run_dir.")
            return cls(path, _lock(path, resume=resume), fresh=not _holds_something(path), made=made)
        except OSError as error:
            remove_folders(made)
            raise InputError(
                f"run_dir {str(path)!r} can't be used ({error.strerror}: {str(error.filename or path)!r}): "
                "choose another run_dir."
            ) from error
        except InputError:
            remove_folders(made)
            raise

    @classmethod
    def join(cls, path: Path) -> Self:
        """Use the directory that another process of the same run has claimed."""
        return cls(path, None)

    def discard(self) -> None:
        """Release the directory and, if it was empty before, empty it: for a run that was refused before it began."""
        if self._fresh:
            for entry in self.path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        self.release()
        remove_folders(self._made)

    def release(self) -> None:
        """Release the directory; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        """Return this object; on exit release the directory, or `discard` it after wrong input before training."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The folder of checkpoints is made when training begins; from then on nothing is discarded.
        if isinstance(error, InputError) and not self.checkpoints.exists():
            self.discard()
        self.release()

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """The run's identity."""
        return self.path / "run.json"

    @property
    def metrics_csv(self) -> Path:
        """One row per global step at which metrics were logged."""
        return self.path / "metrics.csv"

    @property
    def summary_json(self) -> Path:
        """Final metrics and the run's status."""
        return self.path / "summary.json"

    @property
    def curves_png(self) -> Path:
        """Loss and accuracy by step."""
        return self.path / "curves.png"

    @property
    def profile_png(self) -> Path:
        """The slowest operations of a step, with trainer.profiler=pytorch."""
        return self.path / "profile.png"

    @property
    def profile_csv(self) -> Path:
        """All operations of a step, with trainer.profiler=pytorch."""
        return self.path / "profile.csv"

    def evaluation(self, split: str) -> Path:
        """Folder of the metrics, tables and pictures of "validation" or "test"."""
        return self.path / f"evaluation-{split}"

    @property
    def early_stop(self) -> Path:
        """Exists if the run was stopped for good before its end; contains the reason."""
        return self.path / "early-stop"

    @property
    def wandb_unsent(self) -> Path:
        """Exists from the run's start until W&B has all of it."""
        return self.path / "wandb-unsent"

    @property
    def wandb_url(self) -> Path:
        """Exists once W&B has taken the run; contains the address of its page."""
        return self.path / "wandb-url"

    @property
    def diff_patch(self) -> Path:
        """Exists if the code had uncommitted changes when the run began; contains them."""
        return self.path / "diff.patch"

    @property
    def train_log(self) -> Path:
        """Log lines, and the traceback of a crash."""
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_ckpt(self) -> Path:
        """The checkpoint that validation chose."""
        return self.checkpoints / "best.ckpt"

    @property
    def last_ckpt(self) -> Path:
        """The checkpoint from which the run is resumed."""
        return self.checkpoints / "last.ckpt"


def _lock(path: Path, *, resume: bool) -> FileLock:
    """Lock an existing directory, and remove the temporary files of killed processes."""
    lock = FileLock(path / LOCK_NAME, keep=True)
    if not lock.path.exists():  # a directory that is not a run's gets no lock file
        _check_contents(path, resume=resume)
    if not lock.acquire(blocking=False):
        raise InputError(
            f"run_dir {str(path)!r} is in use by another process: wait until it ends, or choose another run_dir."
        )
    try:
        _check_contents(path, resume=resume)
    except BaseException:
        lock.release()
        raise
    for folder in (path, path / "checkpoints", path / "wandb"):
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)
    return lock


def _holds_something(path: Path) -> bool:
    return any(not entry.name.startswith(LOCK_NAME) and not _is_leftover(entry) for entry in path.iterdir())


def _is_leftover(entry: Path) -> bool:
    """Return whether it is a temporary file of a killed process."""
    return entry.name.startswith(".") and entry.suffix == TEMPORARY_SUFFIX and entry.is_file()


def _check_contents(path: Path, *, resume: bool) -> None:
    """Refuse a directory that is not empty; with `resume`, one with files of a run but no run to resume.

    Other files, such as a job's log, are allowed.
    """
    if not resume and _holds_something(path):
        raise InputError(
            f"run_dir {str(path)!r} is not empty: type resume=auto to continue the run in it, or choose another "
            "run_dir."
        )
    of_a_run = ("run.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    if any((path / name).is_file() for name in of_a_run):
        return
    for pattern in ("checkpoints/*", "config.yaml", "metrics.csv", "summary.json", "evaluation-*"):
        for entry in path.glob(pattern):
            raise InputError(
                f"run_dir {str(path)!r} holds {entry.relative_to(path)} and no run: choose another run_dir."
            )
