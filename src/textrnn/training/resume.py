"""Resuming: what may be continued, with what, and from where. Imports torch only to read a checkpoint."""

import functools
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.signals import Signals
from textrnn.config.compose import load_config
from textrnn.config.experiment_files import as_override
from textrnn.config.schema import Config, differences
from textrnn.data.classes import listed_classes
from textrnn.data.store import Store, prepare_store, recorded_store
from textrnn.data.tokenizer import load_tokenizer
from textrnn.distributed.launch import Launch
from textrnn.distributed.ranks import Ranks
from textrnn.tracking.identity import read_identity
from textrnn.tracking.run_directory import RunDirectory
from textrnn.training.claim import Run

if TYPE_CHECKING:
    from textrnn.tracking.summary import RunSummary
    from textrnn.tracking.wandb_run import WandbRun
    from textrnn.training.checkpoints import Checkpoint


class ResumeState(StrEnum):
    """State of the run in a directory."""

    NEW = "new"
    BEGUN = "begun"
    """It continues from `last.ckpt`."""
    OVER = "over"


def resume_state(
    config: Config, directory: RunDirectory, signals: Signals, *, primary: bool, alone: bool = True
) -> ResumeState:
    """Return the state of the run in `directory`; for an ended run, upload the rows that are missing in W&B.

    Of a finished run that is `alone`, and not one of a multirun, it prints what to type to train on.

    Raises:
        InputError: the run can't be continued with `config`, or its checkpoint is lost.
    """
    begun = config.resume is not None and directory.last_ckpt.is_file()
    if config.resume is None or not primary:
        return ResumeState.BEGUN if begun else ResumeState.NEW
    checkpoint = None
    if begun:
        from textrnn.training.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(directory.last_ckpt)
        refuse_another_run(checkpoint, config)
        refuse_less(checkpoint, config)
    if _is_over(config, directory, checkpoint, alone=alone):
        if directory.wandb_unsent.is_file():
            _upload_missing(config, directory, checkpoint, signals)
        return ResumeState.OVER
    if checkpoint is None:
        refuse_to_begin_again(directory)
        return ResumeState.NEW
    refuse_without_best(checkpoint)
    return ResumeState.BEGUN


def store_of(config: Config, checkpoint: "Checkpoint | None") -> Store:
    """Return the reviews that the run began with, unless others were typed.

    Raises:
        InputError: they can't be read, or the store can't be written.
    """
    if checkpoint is None or checkpoint.config.data.path != config.data.path:
        return prepare_store(config.data)
    return recorded_store(config.data, checkpoint.data)


def refuse_another_run(checkpoint: "Checkpoint", config: Config) -> None:
    """Refuse changes of keys that must not change in a run that has begun.

    Raises:
        InputError: with the changed keys and their former values.
    """
    before = checkpoint.config
    changed = ["objective"] if before.objective != config.objective else []
    changed += [f"pretraining.{key}" for key in differences(before.pretraining, config.pretraining)]
    # The implementation is not part of the model: parameters and results are the same.
    changed += [f"model.{key}" for key in differences(before.model, config.model) if key != "implementation"]
    free = ("cache_dir", "eval_batch_size", "path")  # the reviews themselves are compared when they are loaded
    changed += [f"data.{key}" for key in differences(before.data, config.data) if key not in free]
    # The scores of the epochs so far, including the best one, are those of the monitored metric.
    stopping = differences(before.early_stopping, config.early_stopping)
    changed += ["early_stopping.monitor"] if "monitor" in stopping else []
    changed += ["seed"] if before.seed != config.seed else []
    # Without an average the checkpoint lacks one, and with one the weights to train on lie elsewhere in it.
    averages = (before.optimizer.average, config.optimizer.average)
    changed += ["optimizer.average"] if 0 in averages and any(averages) else []
    # With one learning rate for all parts the optimizer's state has fewer groups of parameters.
    decays = (before.optimizer.layer_decay, config.optimizer.layer_decay)
    changed += ["optimizer.layer_decay"] if decays[0] != decays[1] and 1 in decays else []
    if changed:
        was = " ".join(as_override(key, attrgetter(key)(before)) for key in changed)
        raise InputError(
            f"resume: {', '.join(changed)} can't change in a run that has begun; type {was}, as it was in "
            f"{checkpoint.path.parent.parent}, or start a new run."
        )
    load_tokenizer(checkpoint.tokenizer_json)  # another version of spaCy would split words differently


def refuse_other_data(checkpoint: "Checkpoint", store: Store) -> None:
    """Refuse to continue with other classes, other reviews or another vocabulary.

    Raises:
        InputError: naming the classes, or the splits that differ.
    """
    before = checkpoint.data["classes"]
    if before != list(store.classes):
        raise InputError(
            f"resume: the classes are now {listed_classes(store.classes)}, and were {listed_classes(before)} when "
            f"{checkpoint.path.parent.parent} began; give the old reviews with data.path, or start a new run."
        )
    # The vocabulary is from the training reviews; with another one all splits have other ids.
    same_words = store.tokenizer_json == checkpoint.tokenizer_json
    differing = store.differing(checkpoint.data) if same_words else ["train"]
    if differing:
        raise InputError(
            f"resume: these are not the reviews that {checkpoint.path.parent.parent} began with (those for "
            f"{' and '.join(differing)} differ); give the old ones with data.path, or start a new run."
        )


def refuse_less(checkpoint: "Checkpoint", config: Config) -> None:
    """Refuse limits that the run has passed already.

    Raises:
        InputError: with the run's epochs and steps.
    """
    trainer, run, epochs = config.trainer, checkpoint.path.parent.parent, checkpoint.epoch + 1
    if trainer.fast_dev_run:
        raise InputError(
            f"resume: trainer.fast_dev_run={str(trainer.fast_dev_run).lower()} is for new runs and can't continue "
            f"{run}; type trainer.fast_dev_run=false, or another run_dir."
        )
    limits = (("max_epochs", trainer.max_epochs, epochs), ("max_steps", trainer.max_steps, checkpoint.global_step))
    for key, limit, reached in limits:
        if limit not in (None, -1) and limit < reached:
            raise InputError(
                f"resume: trainer.{key}={limit} is less than what {run} has trained (epoch {epochs}, step "
                f"{checkpoint.global_step}); type trainer.{key}={reached} or more, or start a new run."
            )


def refuse_to_begin_again(directory: RunDirectory) -> None:
    """Refuse to start a new run in a directory whose run has trained an epoch or more but has lost `last.ckpt`.

    `last.ckpt` is written at the end of the first epoch, a moment after `best.ckpt`.

    Raises:
        InputError: with the state of that run.
    """
    from textrnn.tracking.metrics_csv import surviving_rows
    from textrnn.tracking.summary import Status, read_status

    status = read_status(directory.summary_json)
    had_an_epoch = any(row["epoch"] > 0 for row in surviving_rows(directory.metrics_csv))
    if status in (Status.FINISHED, Status.STOPPED) or (directory.best_ckpt.is_file() and had_an_epoch):
        came_to = f"it is {status}" if status is not None else "it has trained for an epoch or more"
        raise InputError(
            f"resume: {directory.path} holds a run ({came_to}), but no checkpoints/last.ckpt to resume from; restore "
            "that file, or type another run_dir."
        )


def refuse_without_best(checkpoint: "Checkpoint") -> None:
    """Refuse to continue without the best weights so far: unless a later epoch beat them, the test would be of others.

    Raises:
        InputError: naming the file that is gone.
    """
    best = checkpoint.path.parent / checkpoint.best
    if checkpoint.best and not best.is_file():
        raise InputError(
            f"resume: {best}, the best weights of the run so far, is missing; restore it, or type another run_dir."
        )


def _is_over(config: Config, directory: RunDirectory, checkpoint: "Checkpoint | None", *, alone: bool) -> bool:
    """Whether the run in `directory` has ended with this very configuration, or was stopped for good; says so."""
    from textrnn.tracking.summary import Status, read_status

    status = read_status(directory.summary_json)
    if status is None:  # it was killed: if it had been requested to stop, it stops now and records that
        return False
    if config.resume == "auto" and directory.early_stop.is_file():
        LOGGER.info(f"this run was stopped early; type resume={directory.path} to continue it nevertheless")
        return True
    changed = set(differences(load_config(directory.config_yaml), config)) - {"resume", "run_dir"}
    if status != Status.FINISHED:
        return False
    if changed:
        _refuse_in_vain(directory, changed)
        return False
    if not alone:
        LOGGER.info(f"{directory.path} is finished")
        return True
    trainer = config.trainer
    limits = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps, "max_time": trainer.max_time}
    larger = " or ".join(f"trainer.{key}" for key, limit in limits.items() if limit not in (None, -1))
    patience = config.early_stopping.patience
    if checkpoint is not None and patience is not None and checkpoint.waited >= patience:
        larger = "early_stopping.patience"
    LOGGER.info(f"this run is finished; type a larger {larger} to train on")
    return True


_LIMITS = {"trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "early_stopping.patience"}
_OF_TRAINING = (
    "optimizer.",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip",
)
"""How keys begin that change training alone."""


def _refuse_in_vain(directory: RunDirectory, changed: set[str]) -> None:
    """Refuse to record other training in a finished run that isn't trained on.

    Raises:
        InputError: naming the keys.
    """
    vain = sorted(key for key in changed if key.startswith(_OF_TRAINING))
    if vain and not changed & _LIMITS:
        raise InputError(
            f"resume: {directory.path} is finished, so that {' and '.join(vain)} would change nothing; type a larger "
            "trainer.max_epochs too, or leave resume out for a new run."
        )


def _upload_missing(config: Config, directory: RunDirectory, checkpoint: "Checkpoint | None", signals: Signals) -> None:
    """Upload the missing rows, summary and model of a run that has ended here but not in W&B."""
    from textrnn.tracking.wandb_end import upload_missing
    from textrnn.training.record import recorded_charts, report_data, report_model

    run = Run(
        config=config,
        identity=read_identity(directory.run_json),
        directory=directory,
        checkpoint=checkpoint,
        store=store_of(config, checkpoint),
        ranks=Ranks(Launch()),
        signals=signals,
    )

    def report(summary: "RunSummary", wandb_run: "WandbRun") -> None:
        report_data(run, wandb_run)
        report_model(run, summary, wandb_run)

    charts = functools.partial(recorded_charts, run)
    upload_missing(config, run.identity, directory, charts=charts, report=report)
