"""Training and testing inside a run: the model, Lightning's trainer, and what is recorded of them."""

import contextlib
import math
import signal
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor

from textrnn import exit_codes
from textrnn.cluster.buckets import SettledBuckets
from textrnn.cluster.environment import layout
from textrnn.cluster.launch import Launch
from textrnn.config import Config
from textrnn.data.module import ReviewsDataModule
from textrnn.errors import InputError
from textrnn.logs import LOGGER, quiet_lightning
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.vectors.table import TEXT_COVERAGE, VOCABULARY_COVERAGE, vector_table
from textrnn.preemption import EarlyStop, Preemption, Stopped, keep_lightning_from_signals
from textrnn.recording import Parts, record_end, record_start
from textrnn.reporting import kept_predictions, report_predictions, watching
from textrnn.resuming import ResumedEarlyStopping, ResumedLoops, ResumedModelCheckpoint
from textrnn.runs import Run
from textrnn.saving import AtomicCheckpointIO, CheckpointRecord
from textrnn.signals import Preempted
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.profiling import StepProfile, lightning_profiler
from textrnn.tracking.progress import run_progress
from textrnn.tracking.rundir import RunDirectory
from textrnn.tracking.summary import RunSummary, summary_table
from textrnn.tracking.throughput import Throughput
from textrnn.tracking.wandb_session import WandbRun

STOP_POLL = 20.0
"""Seconds within which W&B's client learns that its run was stopped; it asks the server every 15."""

START_PATIENCE = 180.0
"""Seconds that the other ranks wait for rank 0's model or W&B run."""


def fit(this: Run, *, wandb_mode: str) -> int:
    """Trains and tests; on rank 0 also records, in the run directory and, unless `wandb_mode` is "none", in W&B.

    Returns the exit code: done (also when a sweep stopped the run early), or pre-empted, with `last.ckpt` written.

    Raises:
        InputError: for vectors, trainer arguments or a W&B run that are refused; nothing is trained then.
    """
    quiet_lightning()
    # Lightning takes it from variables that are also those of a SLURM task which is a run of its own.
    rank_zero_only.rank = this.ranks.launch.rank  # type: ignore[attr-defined]  # set so by Lightning too
    this.signals.only_note()  # until the end: once all is trained and tested, a signal changes nothing
    early_stop = EarlyStop(this.directory.early_stop)
    with this.ranks.phase(patience=START_PATIENCE):
        parts = _parts(this, early_stop)
    with this.ranks.phase(patience=START_PATIENCE):
        wandb_run = record_start(this, early_stop, wandb_mode) if this.primary else None
    if not this.primary:
        return _fit_and_test(this, parts)[1]
    if early_stop.has_file:  # of a process that was killed before it could stop
        early_stop.ask()
    status, code = "failed", exit_codes.CRASH
    try:
        parts.logger.attach(parts.trainer, wandb_run)
        reached, its_code = _fit_and_test(this, parts)
        if reached == "preempted" and _may_be_stopped(this, wandb_run) and early_stop.is_asked(within=STOP_POLL):
            reached, its_code = "stopped", exit_codes.DONE
        if reached == "finished":
            report_predictions(this, parts.predictions, parts.logger, step=parts.trainer.global_step)
        if reached == "stopped":
            early_stop.keep()
        status, code = reached, its_code  # only now: what fails above is a failure
    except KeyboardInterrupt:
        status, code = "interrupted", exit_codes.INTERRUPTED
        raise
    finally:
        summary = record_end(this, parts, wandb_run, status, code)
    if code == exit_codes.DONE:
        _warn_if_diverged(summary)
        Console().print(summary_table(this.identity.name, summary))
        print(f"to look at it: {this.directory.curves_png}; {_how_to_look(wandb_run)}")
    return code


def _warn_if_diverged(summary: RunSummary) -> None:
    lost = [name for name in ("train/loss", "val/loss") if math.isnan(summary.metrics.get(name, 0.0))]
    if lost:
        LOGGER.warning(f"{' and '.join(lost)}: no number, so the run has diverged; try a smaller optimizer.lr")


def _fit_and_test(this: Run, parts: Parts) -> tuple[str, int]:
    """The run's status and exit code."""
    try:
        _fit(this, parts)
        _test(this, parts)
    except Preempted:
        return "preempted", exit_codes.PREEMPTED
    except Stopped:
        return "stopped", exit_codes.DONE
    return "finished", exit_codes.DONE


def _may_be_stopped(this: Run, wandb_run: WandbRun | None) -> bool:
    """Whether the signal may come from an agent of W&B that stops the trial, some seconds before the client knows why.

    Agents send SIGTERM, and to the trial alone. SIGUSR1 and SIGUSR2 come from a cluster, which won't wait long, and so
    does a SIGTERM that has ended the client's service too.
    """
    if this.identity.sweep_id is None or wandb_run is None or wandb_run.url is None:
        return False
    return this.signals.received == signal.SIGTERM and wandb_run.is_alive()


def _parts(this: Run, early_stop: EarlyStop) -> Parts:
    """Builds model, data and trainer.

    Raises:
        InputError: for vectors of other words, or trainer arguments that Lightning refuses.
    """
    config, store = this.config, this.store
    vectors, coverage = _vectors(this)
    module = ReviewClassifier(
        config.model, config.optimizer, vocab_size=store.vocab_size, seed=config.seed, vectors=vectors
    )
    logger = RunLogger(this.directory.path, this.identity)
    throughput = Throughput(config.trainer.log_every_n_steps)
    record = CheckpointRecord(
        config,
        tokenizer_json=store.tokenizer_json,
        vocab_size=store.vocab_size,
        identity=this.identity.to_dict(),
        data=store.record(),
        coverage=coverage,
    )
    predictions = kept_predictions(config, store)
    preemption = Preemption(this.directory.last_ckpt, early_stop, this.signals)
    callbacks: list[Callback] = [throughput, predictions, record, ResumedLoops(), preemption, SettledBuckets()]
    callbacks += watching(config, logger)
    if config.trainer.enable_progress_bar is not False:
        callbacks.append(run_progress(logger, counts_steps=config.data.segment_size is None))
    if config.trainer.profiler == "pytorch" and this.primary:
        callbacks.append(StepProfile(this.directory))
    callbacks += _selection(config, this.directory)
    trainer = _trainer(config, callbacks, logger, this.directory, this.ranks.launch)
    return Parts(
        module=module,
        data=ReviewsDataModule(config.data, store, config.seed),
        trainer=trainer,
        logger=logger,
        throughput=throughput,
        predictions=predictions,
        coverage=coverage,
    )


def _vectors(this: Run) -> tuple[Tensor | None, dict[str, float]]:
    """The vectors that the embedding starts from, and how much of the training text they cover, now or at the start.

    Raises:
        InputError: if they have no word of the vocabulary.
    """
    if this.vectors is None:
        return None, {} if this.checkpoint is None else this.checkpoint.coverage
    store, name = this.store, this.vectors.name
    table = vector_table(this.vectors, store.vocabulary, seed=this.config.seed)
    coverage = table.coverage(store.split("train").token_counts(store.vocab_size))
    if this.primary:
        LOGGER.info(
            f"{name}: vectors for {coverage[VOCABULARY_COVERAGE]:.1%} of the vocabulary's words, which are "
            f"{coverage[TEXT_COVERAGE]:.1%} of the training reviews' tokens"
        )
    return table.values, coverage


def _selection(config: Config, directory: RunDirectory) -> list[Callback]:
    """Early stopping and checkpoints: `best.ckpt` by the monitored metric, `last.ckpt` to continue from.

    The monitored metric is looked at after a validation. At an epoch's end, where Lightning would look by default, a
    run that was resumed since the last validation hasn't got it.
    """
    callbacks: list[Callback] = []
    stopping = config.early_stopping
    mode = "max" if stopping.monitor == "val/accuracy" else "min"
    validates = config.trainer.limit_val_batches != 0 and not config.trainer.fast_dev_run
    if validates and stopping.patience is not None:
        rule: dict[str, Any] = {"mode": mode, "patience": stopping.patience, "min_delta": stopping.min_delta}
        callbacks.append(ResumedEarlyStopping(stopping.monitor, check_on_train_epoch_end=False, **rule))
    if config.trainer.enable_checkpointing is False:
        return callbacks
    place: dict[str, Any] = {"dirpath": directory.checkpoints.resolve(), "enable_version_counter": False}
    if validates:
        best: dict[str, Any] = {"monitor": stopping.monitor, "mode": mode, "save_top_k": 1}
        callbacks.append(ResumedModelCheckpoint(filename="best", save_on_train_epoch_end=False, **best, **place))
    callbacks.append(ResumedModelCheckpoint(filename="last", save_top_k=1, save_on_train_epoch_end=True, **place))
    if config.checkpoint.every_n_train_steps is not None:
        every = config.checkpoint.every_n_train_steps
        callbacks.append(ResumedModelCheckpoint(filename="last", save_top_k=1, every_n_train_steps=every, **place))
    return callbacks


def _trainer(
    config: Config, callbacks: list[Callback], logger: RunLogger, directory: RunDirectory, launch: Launch
) -> pl.Trainer:
    arguments = {item.name: getattr(config.trainer, item.name) for item in fields(config.trainer)}
    arguments["profiler"] = lightning_profiler(config.trainer.profiler, directory.path)
    places, cluster = layout(config.trainer, launch)
    if config.data.segment_size is not None:
        arguments["reload_dataloaders_every_n_epochs"] = 1
    try:
        trainer = pl.Trainer(
            **(arguments | places),
            callbacks=callbacks,
            logger=logger,
            plugins=[AtomicCheckpointIO(), cluster],
            default_root_dir=directory.path,
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:  # ImportError: a TPU's library
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    keep_lightning_from_signals(trainer)
    return trainer


def _fit(this: Run, parts: Parts) -> None:
    checkpoint = None if this.checkpoint is None else str(this.checkpoint.path)
    with _interruptible(parts.trainer):
        parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)


def _test(this: Run, parts: Parts) -> None:
    """Measures the best checkpoint on the test set, once."""
    if not this.config.test:
        return
    # Without validation, checkpoints or with fast_dev_run there is no best one: the weights are the last ones.
    checkpoint = None if this.best_ckpt is None else str(this.best_ckpt)
    with _interruptible(parts.trainer):
        parts.trainer.test(parts.module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True, verbose=False)


@contextlib.contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Gives Ctrl-C back its name: Lightning leaves with SystemExit(1) after it has cleaned up."""
    try:
        yield
    except SystemExit as stop:
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise


def _how_to_look(wandb_run: WandbRun | None) -> str:
    if wandb_run is None:
        return "no W&B run (tracking=none)"
    return wandb_run.url or f"wandb leet {wandb_run.directory.parent}"
