"""The verb `train`: the life of a run, from its claim on a directory to its exit code.

Nothing here imports torch or Lightning before the reviews are there: wrong input is refused within seconds. What is
trained and recorded is in `fitting.py`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn import exit_codes
from textrnn.checks import check_devices, differences
from textrnn.compose import load_config
from textrnn.config import Config
from textrnn.data.store import prepare_store
from textrnn.errors import InputError
from textrnn.logs import LOGGER, log_to_console, log_to_file
from textrnn.runs import Run
from textrnn.signals import Preempted, Signals
from textrnn.tracking.identity import RunIdentity, new_identity, read_identity
from textrnn.tracking.rundir import RunDirectory, default_run_dir

if TYPE_CHECKING:
    from textrnn.checkpoints import Checkpoint

SHARED_RUN_DIR = "TEXTRNN_RUN_DIR"
"""Environment variable by which rank 0 tells the processes that Lightning starts where the run is."""


def run(config: Config, command: Sequence[str]) -> int:
    """Trains, tests and records one run; returns its exit code.

    Raises:
        InputError: for wrong input; a run directory that was made for it is removed again.
    """
    rank = global_rank()
    if rank == 0:
        log_to_console()
    check_devices(config.trainer)
    directory, identity = _claim(config, command, rank)
    with directory, Signals() as signals:
        try:
            with log_to_file(directory.train_log if rank == 0 else directory.path / f"train-rank{rank}.log"):
                return _guarded(config, identity, directory, signals, primary=rank == 0)
        except InputError:
            # The folder of checkpoints is made when training begins; from then on nothing is thrown away.
            if rank == 0 and not directory.checkpoints.exists():
                directory.discard()
            raise


def global_rank() -> int:
    """Number of this process among those of the run, as its launcher says."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def _claim(config: Config, command: Sequence[str], rank: int) -> tuple[RunDirectory, RunIdentity]:
    """The run's directory, for itself, and who the run is if it is new."""
    identity = new_identity(config, command)
    shared = os.environ.get(SHARED_RUN_DIR)
    if rank > 0 and shared is not None:
        return RunDirectory.join(Path(shared)), identity
    processes = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if config.run_dir is None and processes > 1:
        raise InputError("run_dir: processes started by torchrun or srun must share it; type run_dir=DIR.")
    if rank > 0:
        return RunDirectory.join(Path(str(config.run_dir))), identity
    path = Path(config.run_dir) if config.run_dir is not None else default_run_dir(config, identity)
    claimed = RunDirectory.claim(path, resume=config.resume is not None)
    os.environ[SHARED_RUN_DIR] = str(path.resolve())
    return claimed, identity


def _guarded(config: Config, identity: RunIdentity, directory: RunDirectory, signals: Signals, *, primary: bool) -> int:
    """Trains; turns every way to end into an exit code, and a crash into a traceback in train.log."""
    try:
        code = _train(config, identity, directory, signals, primary=primary)
    except Preempted:
        code = exit_codes.PREEMPTED
    except KeyboardInterrupt:
        LOGGER.warning("interrupted")
        return exit_codes.INTERRUPTED
    except InputError:
        raise
    except Exception:
        # Whatever comes here is a defect of ours or of a library; `run` has nobody above it to tell but the shell.
        LOGGER.exception("the run crashed")
        return exit_codes.CRASH
    if code == exit_codes.PREEMPTED:
        LOGGER.warning("pre-empted; the same command with resume=auto continues")
    elif primary:
        print(f"run directory: {directory.path}")
    return code


def _train(config: Config, identity: RunIdentity, directory: RunDirectory, signals: Signals, *, primary: bool) -> int:
    checkpoint = None
    if config.resume is not None and directory.last_ckpt.is_file():
        from textrnn.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(directory.last_ckpt)
        _refuse_another_run(checkpoint, config)
        if _is_over(config, directory):
            if primary and directory.wandb_unsent.is_file():
                _complete_in_wandb(config, directory, checkpoint, signals)
            return exit_codes.DONE
        if primary:
            directory.early_stop.unlink(missing_ok=True)
    if config.resume is not None and directory.run_json.is_file():
        identity = read_identity(directory.run_json)
    mode, line = "none", None
    if primary:
        from textrnn.tracking.wandb_mode import resolve_mode

        mode, line = resolve_mode(config.tracking, directory.path)
    store = prepare_store(config.data)
    if line is not None:
        LOGGER.info(line)
    from textrnn.fitting import fit

    return fit(
        Run(
            config=replace(config, run_dir=str(directory.path)),
            identity=identity,
            directory=directory,
            checkpoint=checkpoint,
            store=store,
            primary=primary,
            signals=signals,
        ),
        wandb_mode=mode,
    )


def _complete_in_wandb(config: Config, directory: RunDirectory, checkpoint: "Checkpoint", signals: Signals) -> None:
    """Brings W&B what it lacks of a run that has ended here but not there: rows, summary, model."""
    from textrnn.reporting import report_model
    from textrnn.tracking.wandb_end import bring_what_is_missing

    this = Run(
        config=config,
        identity=read_identity(directory.run_json),
        directory=directory,
        checkpoint=checkpoint,
        store=prepare_store(config.data),
        primary=True,
        signals=signals,
    )
    bring_what_is_missing(
        config, this.identity, directory, report=lambda summary, run: report_model(this, summary, run)
    )


def _refuse_another_run(checkpoint: "Checkpoint", config: Config) -> None:
    before = checkpoint.config
    changed = [f"model.{key}" for key in differences(before.model, config.model)]
    changed += [f"data.{key}" for key in differences(before.data, config.data) if key != "cache_dir"]
    changed += ["seed"] if before.seed != config.seed else []
    if changed:
        raise InputError(
            f"resume: {', '.join(changed)} can't change in a run that has begun; leave it as it was in "
            f"{checkpoint.path.parent.parent / 'config.yaml'}, or start a new run."
        )


def _is_over(config: Config, directory: RunDirectory) -> bool:
    """Whether the run in `directory` has ended with this very configuration, or was stopped for good; says so."""
    if config.resume == "auto" and directory.early_stop.is_file():
        LOGGER.info(f"this run was stopped early; type resume={directory.path} to go on with it all the same")
        return True
    if not directory.summary_json.is_file():
        return False
    status = json.loads(directory.summary_json.read_text(encoding="utf-8")).get("status")
    changed = set(differences(load_config(directory.config_yaml), config)) - {"resume", "run_dir"}
    if status != "finished" or changed:
        return False
    LOGGER.info("this run is finished; type a larger trainer.max_epochs to train on")
    return True
