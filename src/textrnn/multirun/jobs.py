"""The jobs of a multirun and their folders; a job keeps its folder when the list of jobs changes.

PARENT/jobs.json     for each number the keys in which its job differs from the schema's defaults
PARENT/NUMBER        the run directory
"""

import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.base.locks import FileLock
from textrnn.config.compose import CommandLine, job_overrides
from textrnn.config.schema import Config, differences
from textrnn.distributed.ranks import Ranks
from textrnn.distributed.slurm import batch_job
from textrnn.tracking.identity import refuse_one_id_for_all

RECORD = "jobs.json"
LOCK = f".{RECORD}.lock"
WHEREABOUTS = ("run_dir", "resume")
"""Keys of a job's place, which don't identify it."""
OPEN = (
    *("trainer.max_", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.enable_", "trainer.log_every_n_steps", "trainer.profiler", "early_stopping.patience", "test"),
    *("checkpoint.", "tracking.", "data.cache_dir", "data.eval_batch_size", "data.path", "model.implementation"),
)
"""Prefixes of the keys for a job's length, devices and records: a job with other values of them is the same job."""

Settings = dict[str, Any]


@dataclass(kw_only=True, slots=True)
class Job:
    """One job of a multirun: a run like any other, in a numbered folder."""

    config: Config
    """The configuration, with the job's own `run_dir` and, if no W&B group is set, the multirun's name as group."""
    overrides: list[str]
    """Its overrides, as typed."""
    exit_code: int | None = None
    """None until the job ends; also for a job that was never started."""

    @property
    def run_dir(self) -> Path:
        """The job's run directory."""
        return Path(str(self.config.run_dir))


@dataclass(kw_only=True, slots=True)
class Multirun:
    """The jobs of one command line and their parent folder."""

    parent: Path
    jobs: list[Job]
    """The jobs in Hydra's order."""
    is_first: bool = False
    """Whether `parent` was empty or missing before this process."""
    made: list[Path] = field(default_factory=list)
    """Directories that this process made for it, the innermost first."""

    @classmethod
    def claim(cls, configs: Sequence[Config], command_line: CommandLine) -> Self:
        """Assign a folder to every job and record that in `jobs.json`; a job of an earlier call keeps its folder.

        Args:
            configs: The jobs' configurations.
            command_line: The command line that they were composed from.

        Raises:
            InputError: for a parent directory that can't be used, or that holds something else.
        """
        refuse_one_id_for_all()
        parent, again = _parent_directory(configs[0], command_line.overrides)
        made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        try:
            with FileLock(parent / LOCK):  # of two processes that start together, the second reads the first's record
                recorded = _recorded(parent, again=again)
                is_first = not recorded
                numbers = _number(configs, recorded, parent)
                record = {str(number): settings for number, settings in sorted(recorded.items())}
                write_atomically(parent / RECORD, json.dumps(record, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"run_dir={parent} can't be used ({error.strerror}: {error.filename}).") from error
        return cls(parent=parent, jobs=_jobs(configs, command_line, parent, numbers), is_first=is_first, made=made)

    @classmethod
    def share(cls, configs: Sequence[Config], command_line: CommandLine, ranks: Ranks) -> Self:
        """`claim` on rank 0, for all ranks."""
        claimed: list[Self] = []

        def claim() -> str:
            claimed.append(cls.claim(configs, command_line))
            numbers = [int(job.run_dir.name) for job in claimed[0].jobs]
            return json.dumps({"parent": str(claimed[0].parent), "numbers": numbers})

        shared = json.loads(ranks.broadcast(claim))
        if claimed:
            return claimed[0]
        parent = Path(shared["parent"])
        return cls(parent=parent, jobs=_jobs(configs, command_line, parent, shared["numbers"]))

    @property
    def exit_code(self) -> int:
        """Return the first exit code of a job that isn't 0; a job that was never started counts as crashed."""
        codes = (exits.CRASH if job.exit_code is None else job.exit_code for job in self.jobs)
        return next((code for code in codes if code != exits.DONE), exits.DONE)

    def remove_if_unused(self) -> None:
        """Remove the folders of jobs that were all refused, so that the same command can be typed again."""
        if not self.is_first or any(job.run_dir.exists() for job in self.jobs):
            return
        (self.parent / RECORD).unlink(missing_ok=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # not empty: another process uses it
                folder.rmdir()


def _jobs(configs: Sequence[Config], command_line: CommandLine, parent: Path, numbers: Sequence[int]) -> list[Job]:
    jobs = []
    for config, overrides, number in zip(configs, job_overrides(command_line), numbers, strict=True):
        tracking = replace(config.tracking, group=config.tracking.group or parent.name)
        own = replace(config, run_dir=str(parent / str(number)), tracking=tracking)
        jobs.append(Job(config=own, overrides=overrides))
    return jobs


def _parent_directory(config: Config, overrides: Sequence[str]) -> tuple[Path, bool]:
    """Return the folder of the jobs, and whether it may hold some already.

    In a SLURM batch job it is the same folder when the job is requeued.
    """
    job = batch_job()
    if config.run_dir is not None:
        parent = Path(config.run_dir)
    elif job is not None:
        digest = hashlib.sha256(repr(list(overrides)).encode()).hexdigest()[:6]
        parent = Path("runs") / f"slurm-{job.id}-multirun-{digest}"
    else:
        parent = Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-multirun-{secrets.token_hex(3)}"
    return parent, config.resume is not None or (job is not None and job.restarts > 0)


def _recorded(parent: Path, *, again: bool) -> dict[int, Settings]:
    """Return the jobs of earlier calls by their numbers.

    Raises:
        InputError: for a folder whose jobs can't be continued, or not without `resume=auto`.
    """
    found = {entry.name for entry in parent.iterdir()} - {LOCK}
    if found and not again:
        raise InputError(f"run_dir={parent} is not empty; type another directory, or resume=auto to continue its jobs.")
    if "run.json" in found:
        raise InputError(f"run_dir={parent} is a run and not the parent of jobs; type another directory.")
    if RECORD not in found:
        if runs := [name for name in found if (parent / name / "run.json").exists()]:
            raise InputError(
                f"run_dir={parent} holds {min(runs)}, but no {RECORD} to say which job that is; type another directory."
            )
        return {}
    path = parent / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): dict(settings) for number, settings in record.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); type another run_dir, or resume=RUN to resume one run."
        ) from error


def _number(configs: Sequence[Config], recorded: dict[int, Settings], parent: Path) -> list[int]:
    """Return the jobs' numbers, the recorded ones for jobs of earlier calls; add all jobs to `recorded`.

    A job is the same as a recorded one with the same settings, or as the only one that has the same settings except for
    keys in `OPEN` that don't vary among the jobs now, such as a larger number of epochs.
    """
    jobs = [_settings(config) for config in configs]
    keys = {key for job in jobs for key in job}
    varied = {key for key in keys if len({repr(job.get(key, ...)) for job in jobs}) > 1}
    numbers: dict[int, int] = {}
    free = dict(recorded)
    for place, job in enumerate(jobs):
        if (number := next((number for number, old in free.items() if old == job), None)) is not None:
            numbers[place] = number
            del free[number]
    for place, job in enumerate(jobs):
        candidates = [number for number, old in free.items() if _identity(old, varied) == _identity(job, varied)]
        if place not in numbers and candidates and all(free[other] == free[candidates[0]] for other in candidates):
            numbers[place] = candidates[0]
            del free[candidates[0]]
    there = [*recorded, *(int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal())]
    following = itertools.count(max(there, default=-1) + 1)
    for place, job in enumerate(jobs):
        if place not in numbers:
            numbers[place] = next(following)
        recorded[numbers[place]] = job
    return [numbers[place] for place in range(len(jobs))]


def _settings(config: Config) -> Settings:
    """Return the settings of a job, as JSON stores them."""
    changed = [key for key in differences(config, Config()) if key not in WHEREABOUTS]
    settings: Settings = json.loads(json.dumps({key: attrgetter(key)(config) for key in changed}))
    return settings


def _identity(settings: Settings, varied: set[str]) -> Settings:
    return {key: value for key, value in settings.items() if key in varied or not key.startswith(OPEN)}
