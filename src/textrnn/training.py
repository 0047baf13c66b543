"""The verb `train`: the life of a run, from its claim on a directory to its exit code.

Nothing here imports torch or Lightning before the reviews are there: wrong input is refused within seconds. What is
trained and recorded is in `fitting.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn import exit_codes
from textrnn.check_batches import check_batches
from textrnn.check_implementation import check_implementation
from textrnn.check_resume import (
    refuse_another_run,
    refuse_less,
    refuse_other_data,
    refuse_to_begin_again,
    refuse_without_best,
)
from textrnn.checks import check_devices, differences
from textrnn.claim import agree, claim, open_shared_store
from textrnn.cluster.launch import Launch
from textrnn.cluster.ranks import Ranks
from textrnn.compose import load_config
from textrnn.config import Config
from textrnn.data.store import Store, cache_dir, prepare_store, recorded_store
from textrnn.errors import InputError, RankLost
from textrnn.logs import LOGGER, log_to_console, log_to_file
from textrnn.runs import Run
from textrnn.signals import Preempted, Signals
from textrnn.tracking.identity import RunIdentity, read_identity
from textrnn.tracking.rundir import RunDirectory

if TYPE_CHECKING:
    from textrnn.checkpoints import Checkpoint
    from textrnn.model.vectors.arrays import WordVectors


def run(config: Config, command: Sequence[str], ranks: Ranks, signals: Signals) -> int:
    """Trains, tests and records one run; returns its exit code.

    Raises:
        InputError: for wrong input; a run directory that was made for it is removed again.
        RankLost: if another rank has ended before training began.
        Preempted: if a signal came before the run had its directory.
    """
    if ranks.is_first:
        log_to_console()
    with ranks.telling():
        signals.heed()
        return _run(config, command, ranks, signals)


def _run(config: Config, command: Sequence[str], ranks: Ranks, signals: Signals) -> int:
    with ranks.phase():
        check_devices(config.trainer, ranks.launch)
        check_implementation(config)
    agree(config, ranks)
    config, directory, identity = claim(config, command, ranks)
    with directory:
        try:
            log = directory.train_log if ranks.is_first else directory.path / f"train-rank{ranks.launch.rank}.log"
            with log_to_file(log):
                return _guarded(config, identity, directory, ranks, signals)
        except InputError:
            # The folder of checkpoints is made when training begins; from then on nothing is thrown away.
            if ranks.is_first and not directory.checkpoints.exists():
                directory.discard()
            raise


def _guarded(config: Config, identity: RunIdentity, directory: RunDirectory, ranks: Ranks, signals: Signals) -> int:
    """Trains; turns every way to end into an exit code, and a crash into a traceback in train.log."""
    try:
        with ranks.telling():
            code = _train(config, identity, directory, ranks, signals)
    except Preempted:
        code = exit_codes.PREEMPTED
    except KeyboardInterrupt:
        LOGGER.warning("interrupted")
        return exit_codes.INTERRUPTED
    except InputError:
        raise
    except RankLost as lost:
        LOGGER.error(f"{lost}; the same command with resume=auto continues")
        return exit_codes.CRASH
    except Exception:
        # Whatever comes here is a defect of ours or of a library; `run` has nobody above it to tell but the shell.
        LOGGER.exception("the run crashed")
        return exit_codes.CRASH
    if code == exit_codes.PREEMPTED:
        LOGGER.warning("pre-empted; the same command with resume=auto continues")
    elif ranks.is_first:
        print(f"run directory: {directory.path}")
    return code


def _train(config: Config, identity: RunIdentity, directory: RunDirectory, ranks: Ranks, signals: Signals) -> int:
    state = ranks.from_first(lambda: _look(config, directory, signals, primary=ranks.is_first))
    if state == "over":
        return exit_codes.DONE
    checkpoint = None
    if state == "begun":
        from textrnn.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(directory.last_ckpt)
    mode, line = "none", None
    with ranks.phase():
        if ranks.is_first:
            from textrnn.tracking.wandb_mode import resolve_mode

            mode, line = resolve_mode(config.tracking, directory.path)
    # A checkpoint holds its vectors; those of a new run are refused, if they are, before reviews are downloaded.
    vectors = _vectors(config, ranks) if checkpoint is None else None
    store = _prepare(config, ranks, checkpoint)
    with ranks.phase():
        if checkpoint is not None:
            refuse_other_data(checkpoint, store)
        check_batches(config, store)
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
            ranks=ranks,
            signals=signals,
            vectors=vectors,
        ),
        wandb_mode=mode,
    )


def _look(config: Config, directory: RunDirectory, signals: Signals, *, primary: bool) -> str:
    """How far the run in `directory` is: "new", "begun" or "over"; brings W&B what it lacks of one that is over."""
    begun = config.resume is not None and directory.last_ckpt.is_file()
    if config.resume is None or not primary:
        return "begun" if begun else "new"
    checkpoint = None
    if begun:
        from textrnn.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(directory.last_ckpt)
        refuse_another_run(checkpoint, config)
        refuse_less(checkpoint, config)
    if _is_over(config, directory, checkpoint):
        if directory.wandb_unsent.is_file():
            _complete_in_wandb(config, directory, checkpoint, signals)
        return "over"
    if checkpoint is None:
        refuse_to_begin_again(directory)
        return "new"
    refuse_without_best(checkpoint)
    return "begun"


def _prepare(config: Config, ranks: Ranks, checkpoint: "Checkpoint | None") -> Store:
    """The token store, which rank 0 makes if it has to; the others open it when it is there.

    Raises:
        InputError: also if a rank does not see what rank 0 has made.
    """
    if not ranks.launch.is_external:
        return _store(config, checkpoint)
    made: list[Store] = []

    def make() -> str:
        made.append(_store(config, checkpoint))
        return str(made[0].path)

    path = Path(ranks.from_first(make))
    with ranks.phase():
        return made[0] if made else open_shared_store(path)


def _store(config: Config, checkpoint: "Checkpoint | None") -> Store:
    """The reviews that the run began with, unless others were typed."""
    if checkpoint is None or checkpoint.config.data.path != config.data.path:
        return prepare_store(config.data)
    return recorded_store(config.data, checkpoint.data)


def _vectors(config: Config, ranks: Ranks) -> "WordVectors | None":
    """The pretrained vectors that the model starts from; rank 0 reads them, the others when they are in the cache.

    Raises:
        InputError: if they aren't there or can't be read.
    """
    if config.model.embedding.kind != "vectors":
        return None
    from textrnn.model.vectors.sources import open_vectors

    opened: list[WordVectors] = []

    def make() -> str:
        opened.append(open_vectors(config.model.embedding, cache_dir(config.data)))
        return ""

    ranks.from_first(make)
    with ranks.phase():
        return opened[0] if opened else open_vectors(config.model.embedding, cache_dir(config.data))


def _complete_in_wandb(
    config: Config, directory: RunDirectory, checkpoint: "Checkpoint | None", signals: Signals
) -> None:
    """Brings W&B what it lacks of a run that has ended here but not there: rows, summary, model."""
    from textrnn.reporting import report_model
    from textrnn.tracking.wandb_end import bring_what_is_missing

    this = Run(
        config=config,
        identity=read_identity(directory.run_json),
        directory=directory,
        checkpoint=checkpoint,
        store=_store(config, checkpoint),
        ranks=Ranks(Launch()),
        signals=signals,
    )
    bring_what_is_missing(
        config, this.identity, directory, report=lambda summary, run: report_model(this, summary, run)
    )


def _is_over(config: Config, directory: RunDirectory, checkpoint: "Checkpoint | None") -> bool:
    """Whether the run in `directory` has ended with this very configuration, or was stopped for good; says so."""
    from textrnn.tracking.summary import read_status

    status = read_status(directory.summary_json)
    if status is None:  # it was killed: if it was told to stop, it does so now, and records it
        return False
    if config.resume == "auto" and directory.early_stop.is_file():
        LOGGER.info(f"this run was stopped early; type resume={directory.path} to go on with it all the same")
        return True
    changed = set(differences(load_config(directory.config_yaml), config)) - {"resume", "run_dir"}
    if status != "finished" or changed:
        return False
    trainer = config.trainer
    limits = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps, "max_time": trainer.max_time}
    larger = " or ".join(f"trainer.{key}" for key, limit in limits.items() if limit not in (None, -1))
    patience = config.early_stopping.patience
    if checkpoint is not None and patience is not None and checkpoint.waited >= patience:
        larger = "early_stopping.patience"
    LOGGER.info(f"this run is finished; type a larger {larger} to train on")
    return True
