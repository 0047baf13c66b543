"""Claiming the run directory: rank 0 claims it; all ranks check that they share it, their code and configuration."""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.base.signals import Signals
from textrnn.config.compose import from_dict, load_config
from textrnn.config.schema import Config, differences
from textrnn.data.store import DamagedStoreError, Store
from textrnn.distributed.launch import SHARED_RUN
from textrnn.distributed.ranks import Ranks
from textrnn.distributed.slurm import Job, batch_job
from textrnn.tracking.identity import RunIdentity, new_identity, read_identity, source_digest, write_identity
from textrnn.tracking.run_directory import RunDirectory, default_run_dir
from textrnn.tracking.uncommitted import keep_uncommitted
from textrnn.training.precision import automatic_precision

if TYPE_CHECKING:
    from textrnn.data.vectors.arrays import WordVectors
    from textrnn.training.checkpoints import Checkpoint
    from textrnn.training.pretrained import Pretrained


@dataclass(kw_only=True, slots=True)
class Run:
    """A run in this process."""

    config: Config
    identity: RunIdentity
    directory: RunDirectory
    checkpoint: "Checkpoint | None"
    """The checkpoint that the run is resumed from; None for a new run."""
    store: Store
    ranks: Ranks
    """The processes of the run, and this one's rank."""
    signals: Signals
    """Signals that pre-empt the run."""
    vectors: "WordVectors | None" = None
    """Pretrained vectors that a new run starts from, if any."""
    pretrained: "Pretrained | None" = None
    """The run whose weights a new run starts from, if any."""

    @property
    def best_ckpt(self) -> Path | None:
        """The best weights, which are tested; None without checkpoints, when the last weights are tested."""
        trainer = self.config.trainer
        keeps = trainer.enable_checkpointing is not False and not trainer.fast_dev_run
        return self.directory.best_ckpt if keeps and self.directory.best_ckpt.is_file() else None

    @property
    def primary(self) -> bool:
        """Whether this process is rank 0, which writes the records."""
        return self.ranks.is_first


VISIBLE_WITHIN = 15.0
"""Seconds within which a file on a shared disk must be visible on another machine."""


def agree(config: Config, ranks: Ranks) -> None:
    """Check that all ranks were started with the same configuration and run the same code.

    Raises:
        InputError: on rank 0, with the key that differs and the rank.
    """
    if not ranks.launch.is_external:
        return
    mine = {"host": socket.gethostname(), "code": source_digest(), "config": asdict(config)}
    gathered = [json.loads(text) for text in ranks.gather(json.dumps(mine))]
    with ranks.barrier():
        if ranks.is_first:
            for rank, other in enumerate(gathered):
                _compare(gathered[0], other, rank)


def _compare(first: dict[str, Any], other: dict[str, Any], rank: int) -> None:
    ours, theirs = from_dict(first["config"]), from_dict(other["config"])
    for key in differences(ours, theirs):
        value = attrgetter(key)
        raise InputError(
            f"{key}={value(theirs)} on rank {rank} ({other['host']}), {key}={value(ours)} on rank 0 ({first['host']}): "
            "start all ranks with the same command."
        )
    if other["code"] != first["code"]:
        raise InputError(
            f"rank {rank} ({other['host']}) runs other code than rank 0 ({first['host']}): bring the package up to "
            "date there."
        )


def claim(config: Config, command: Sequence[str], ranks: Ranks) -> tuple[Config, RunDirectory, RunIdentity]:
    """Return the configuration with its final `resume`, `run_dir` and precision, the run's directory and its identity.

    Configuration and identity are the same on all ranks.

    Raises:
        InputError: if the directory can't be claimed, or a rank does not see it.
    """
    claimed: list[tuple[RunDirectory, RunIdentity]] = []

    def take() -> str:
        directory, identity, resume = _take(config, command)
        claimed.append((directory, identity))
        return json.dumps(
            {
                "directory": str(directory.path.resolve()),
                "resume": resume,
                "id": identity.id,
                "precision": _decided_precision(config, directory, resumed=resume is not None),
            }
        )

    text = os.environ[SHARED_RUN] if ranks.launch.is_child else ranks.broadcast(take)
    os.environ[SHARED_RUN] = text
    shared = json.loads(text)
    try:
        with ranks.barrier():
            if not claimed:
                path = Path(shared["directory"])
                claimed.append((RunDirectory.join(path), _seen(path, shared["id"])))
    except InputError:
        if ranks.is_first and shared["resume"] is None:
            claimed[0][0].discard()
        raise
    directory, identity = claimed[0]
    trainer = replace(config.trainer, precision=shared["precision"])
    return replace(config, resume=shared["resume"], run_dir=str(directory.path), trainer=trainer), directory, identity


def _decided_precision(config: Config, directory: RunDirectory, *, resumed: bool) -> str:
    """Return the precision; `auto` is decided once, at a run's beginning, by the processor of rank 0."""
    precision = config.trainer.precision
    if precision != "auto":
        return precision
    if resumed and directory.config_yaml.is_file():
        return load_config(directory.config_yaml).trainer.precision
    precision, reason = automatic_precision(config)
    LOGGER.info(f"trainer.precision={precision}, {reason}")
    return precision


def write_config(directory: RunDirectory, config: Config) -> None:
    """Write `config.yaml`, by which the settings of a resumed run are known."""
    write_atomically(directory.config_yaml, yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))


def _take(config: Config, command: Sequence[str]) -> tuple[RunDirectory, RunIdentity, str | None]:
    """Claim on rank 0; return directory, identity and the final `resume`."""
    job = batch_job()
    identity = new_identity(config, command, slurm_job=None if job is None else job.id)
    path = Path(config.run_dir) if config.run_dir is not None else default_run_dir(config, identity)
    _refuse_another_run(path)
    resume = config.resume
    if resume is None and job is not None and _is_started_again(job, path):
        LOGGER.info(f"SLURM has requeued job {job.id}: its run in {path} is resumed")
        resume = "auto"
    directory = RunDirectory.claim(path, resume=resume is not None)
    if resume is not None and directory.run_json.is_file():
        recorded = read_identity(directory.run_json)
        if recorded.source != identity.source:
            LOGGER.warning(f"textrnn has changed since the run began with {recorded.described_source()}")
        return directory, recorded, resume
    if resume is not None:
        identity = _recorded_identity(directory) or identity
    write_identity(directory.run_json, identity)
    if identity.git_dirty:
        keep_uncommitted(directory.diff_patch)
    return directory, identity, resume


def _refuse_another_run(path: Path) -> None:
    """Refuse WANDB_RUN_ID if `path` holds the run of another id, or a directory beside it the run of this id.

    Two runs under one id would be one W&B run, with the rows of both.

    Raises:
        InputError: naming the directory.
    """
    given = os.environ.get("WANDB_RUN_ID")
    if not given:
        return
    if (path / "run.json").is_file():
        if (own := read_identity(path / "run.json").id) != given:
            raise InputError(f"WANDB_RUN_ID={given}: {path} holds the run {own}; unset it, or type another run_dir.")
        return
    for run_json in sorted(path.parent.glob("*/run.json")):
        if os.access(run_json, os.R_OK) and f'"id": "{given}"' in run_json.read_text(errors="replace"):
            raise InputError(
                f"WANDB_RUN_ID={given} is the id of the run in {run_json.parent}; unset it for a new run, or type "
                f"run_dir={run_json.parent} resume=auto to continue that one."
            )


def _recorded_identity(directory: RunDirectory) -> RunIdentity | None:
    """Return the identity in the run's checkpoints, if it has any: its `run.json` is lost.

    Raises:
        InputError: if the checkpoint can't be read.
    """
    found = [path for path in (directory.last_ckpt, directory.best_ckpt) if path.is_file()]
    if not found:
        return None
    from textrnn.training.checkpoints import load_checkpoint

    LOGGER.info(f"{directory.run_json} is lost: the run's identity is taken from {found[0]}")
    return RunIdentity.from_dict(load_checkpoint(found[0]).identity)


def _is_started_again(job: Job, path: Path) -> bool:
    """Return whether `path` holds the run that this job began before it was pre-empted."""
    run_json = path / "run.json"
    return job.restarts > 0 and run_json.is_file() and read_identity(run_json).slurm_job == job.id


def _seen(path: Path, run: str) -> RunIdentity:
    """Return the identity that rank 0 has written, when it is visible here.

    Raises:
        InputError: if it can't.
    """
    deadline = time.monotonic() + VISIBLE_WITHIN
    while time.monotonic() < deadline:
        if (path / "run.json").is_file():
            identity = read_identity(path / "run.json")
            if identity.id == run:
                return identity
        time.sleep(0.1)
    raise InputError(
        f"run_dir: {path} on {socket.gethostname()} is not the folder that rank 0 writes to; type run_dir=DIR on a "
        "disk that all nodes share."
    )


def open_shared_store(path: Path) -> Store:
    """Return the token store that rank 0 has opened.

    Raises:
        InputError: if it can't be read here.
    """
    deadline = time.monotonic() + VISIBLE_WITHIN
    while True:
        try:
            return Store(path)
        except DamagedStoreError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"data.cache_dir: {socket.gethostname()} can't read the token store that rank 0 uses ({error}); "
                    "type data.cache_dir=DIR on a disk that all nodes share."
                ) from error
        time.sleep(0.1)
