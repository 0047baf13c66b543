"""Training and testing of a run: the model, Lightning's trainer and the records."""

import contextlib
import math
import shlex
import signal
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor

from textrnn.base.console import LOGGER, quiet_lightning
from textrnn.base.errors import InputError
from textrnn.base.exits import DONE
from textrnn.base.signals import Preempted
from textrnn.config.schema import Config
from textrnn.data.module import ReviewsDataModule
from textrnn.data.review_file import Split
from textrnn.data.store import Store
from textrnn.data.training_split import training_split
from textrnn.data.vectors.table import TEXT_COVERAGE, VOCABULARY_COVERAGE, vector_table
from textrnn.distributed.environment import layout
from textrnn.distributed.launch import Launch, chosen_accelerator
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.pretraining import LanguageModelTraining
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.metrics_csv import best_is
from textrnn.tracking.profiling import StepProfile, lightning_profiler
from textrnn.tracking.progress import run_progress
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import RunSummary, Status, summary_table
from textrnn.tracking.throughput import Throughput
from textrnn.tracking.trackers import OpenTracker, open_tracker
from textrnn.tracking.wandb_run import WandbRun
from textrnn.tracking.wandb_settings import start_timeout
from textrnn.training.averaging import AveragedWeights
from textrnn.training.checkpoint_writing import AtomicCheckpointIO, CheckpointRecord
from textrnn.training.claim import Run
from textrnn.training.exact_resume import ResumedEarlyStopping, ResumedLoops, ResumedModelCheckpoint, SettledBuckets
from textrnn.training.precision import automatic_precision
from textrnn.training.preemption import EarlyStop, Interrupted, Preemption, Stopped, keep_lightning_from_signals
from textrnn.training.record import (
    Components,
    predictions_callback,
    record_end,
    record_evaluation,
    record_start,
    watching,
)

LONG_RUN = 5_000_000
"""Tokens of training, a minute or more of a GRU on one core."""

STOP_POLL = 20.0
"""Seconds within which W&B's client learns that its run was stopped; it polls the server every 15."""

START_PATIENCE = 180.0
"""Seconds that the other ranks wait for rank 0's model or W&B run."""


def fit(run: Run, *, wandb_mode: str) -> Status:
    """Train and test; on rank 0 also record, in the run directory and in W&B or a tracker, as `wandb_mode` says.

    Returns how the run ended: finished, stopped, or pre-empted or interrupted, with `last.ckpt` written.

    Raises:
        InputError: for vectors, trainer arguments or a W&B run that are refused; nothing is trained then.
        KeyboardInterrupt: at a second Ctrl-C, without a checkpoint.
    """
    quiet_lightning()
    # Lightning reads it from variables that are also set for a SLURM task that is a run of its own.
    rank_zero_only.rank = run.ranks.launch.rank  # type: ignore[attr-defined]  # set so by Lightning too
    run.signals.defer(speaks=run.primary)  # until the end: once all is trained and tested, a signal changes nothing
    early_stop = EarlyStop(run.directory.early_stop)
    with run.ranks.barrier(patience=START_PATIENCE):
        components = _components(run, early_stop)
    # W&B is first asked whether it has the run, and then to take it.
    with run.ranks.barrier(patience=START_PATIENCE + 2 * start_timeout()):
        wandb_run = record_start(run, early_stop, wandb_mode) if run.primary else None
    if not run.primary:
        return _fit_and_test(run, components)
    components.tracker = open_tracker(wandb_mode, run.config, run.identity, run.directory)
    if early_stop.has_file:  # from a process that was killed before it could stop
        early_stop.ask()
    status = Status.FAILED
    try:
        components.logger.attach(components.trainer, wandb_run, components.tracker)
        reached = _fit_and_test(run, components)
        if reached == Status.PREEMPTED and _may_be_stopped(run, wandb_run) and early_stop.is_asked(within=STOP_POLL):
            reached = Status.STOPPED
        if reached == Status.FINISHED and components.predictions is not None:
            record_evaluation(run, components.predictions, components.logger, step=components.trainer.global_step)
        if reached == Status.STOPPED:
            early_stop.keep()
        status = reached  # only now: an error above means that the run has failed
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        raise
    finally:
        summary = record_end(run, components, wandb_run, status)
    if status.exit_code == DONE:
        _warn_if_diverged(summary)
        Console().print(summary_table(run.identity.name, summary))
        print(f"view: {run.directory.curves_png}; {_where_to_view(wandb_run, components.tracker, run.directory)}")
    return status


def _warn_if_diverged(summary: RunSummary) -> None:
    lost = [name for name in ("train/loss", "val/loss") if math.isnan(summary.metrics.get(name, 0.0))]
    if lost:
        LOGGER.warning(f"{' and '.join(lost)}: NaN, so the run has diverged; try a smaller optimizer.lr")


def _fit_and_test(run: Run, components: Components) -> Status:
    """Train, then measure the best checkpoint on the test set, once."""
    trainer, checkpoint = components.trainer, run.checkpoint
    try:
        with _interruptible(trainer):
            path = None if checkpoint is None else str(checkpoint.path)
            trainer.fit(components.module, datamodule=components.data, ckpt_path=path, weights_only=True)
            if run.config.test:
                # Without validation or checkpoints, or with fast_dev_run, the last weights are tested.
                path = None if run.best_ckpt is None else str(run.best_ckpt)
                trainer.test(
                    components.module, datamodule=components.data, ckpt_path=path, weights_only=True, verbose=False
                )
    except (Preempted, Interrupted, Stopped) as end:
        LOGGER.info(f"the run stopped {end}")
        return {Preempted: Status.PREEMPTED, Interrupted: Status.INTERRUPTED, Stopped: Status.STOPPED}[type(end)]
    return Status.FINISHED


def _may_be_stopped(run: Run, wandb_run: WandbRun | None) -> bool:
    """Return whether the signal may be from a W&B agent that stops the trial; the client is notified seconds later.

    Agents send SIGTERM, to the trial alone. SIGUSR1 and SIGUSR2 are from a cluster, which won't wait long, and so is a
    SIGTERM that has also ended the client's service.
    """
    if run.identity.sweep_id is None or wandb_run is None or wandb_run.url is None:
        return False
    return run.signals.received == signal.SIGTERM and wandb_run.is_alive()


def _components(run: Run, early_stop: EarlyStop) -> Components:
    """Build model, data and trainer.

    Raises:
        InputError: for vectors of other words, or trainer arguments that Lightning refuses.
    """
    config, store = run.config, run.store
    vectors, coverage = _vectors(run)
    training = training_split(config, store)
    module = _module(config, store, training, vectors)
    if run.pretrained is not None:
        run.pretrained.start(module.model)
        if run.primary:
            LOGGER.info(f"embedding and recurrent layers start from {run.pretrained}")
    logger = RunLogger(run.directory.path, run.identity)
    throughput = Throughput(config.trainer.log_every_n_steps)
    predictions = predictions_callback(config, store) if config.objective == "classification" else None
    record = CheckpointRecord(
        config,
        tokenizer_json=store.tokenizer_json,
        vocab_size=store.vocab_size,
        identity=run.identity.to_dict(),
        data=store.record(),
        coverage=coverage,
        predictions=predictions,
    )
    preemption = Preemption(run.directory.last_ckpt, early_stop, run.signals)
    callbacks: list[Callback] = []
    if config.optimizer.average > 0:
        callbacks.append(AveragedWeights(config.optimizer.average))
    callbacks += [throughput, *([] if predictions is None else [predictions]), record]
    callbacks += [ResumedLoops(), preemption, SettledBuckets()]
    callbacks += watching(config, logger)
    if config.trainer.enable_progress_bar is not False:
        in_segments = config.data.segment_size is not None  # of which the last of a pass is shorter
        callbacks.append(run_progress(logger, lambda: math.inf if in_segments else module.total_steps))
    if config.trainer.profiler == "pytorch" and run.primary:
        callbacks.append(StepProfile(run.directory))
    callbacks += _selection(config, run.directory)
    trainer = _trainer(config, callbacks, logger, run.directory, run.ranks.launch)
    if run.primary:
        _offer_bfloat16(config, training)
    return Components(
        module=module,
        data=ReviewsDataModule(config.data, store, config.seed, training=training),
        trainer=trainer,
        logger=logger,
        throughput=throughput,
        predictions=predictions,
        coverage=coverage,
    )


def _offer_bfloat16(config: Config, training: Split) -> None:
    """Say what would about halve the time of a run of minutes, for what docs/speed.md has measured; rnn gains less.

    It is no default, as one command would give two results.
    """
    tokens = int(training.lengths.clip(max=config.data.max_length).sum()) * max(config.trainer.max_epochs or 1, 1)
    if tokens <= LONG_RUN or config.trainer.precision not in ("32-true", "32"):
        return
    if automatic_precision(config)[0] == "bf16-mixed":
        LOGGER.info("for half the time on this processor, at the same accuracy, type trainer.precision=auto")


def _module(config: Config, store: Store, training: Split, vectors: Tensor | None) -> ReviewClassifier:
    """Return what is trained, by the objective."""
    if config.objective == "language_model":
        counts = torch.from_numpy(training.token_counts(store.vocab_size))
        return LanguageModelTraining(
            config.model, config.pretraining, config.optimizer, counts=counts, seed=config.seed, vectors=vectors
        )
    return ReviewClassifier(
        config.model,
        config.optimizer,
        vocab_size=store.vocab_size,
        seed=config.seed,
        vectors=vectors,
        classes=len(store.classes),
        many_labels=config.data.many_labels(),
    )


def _vectors(run: Run) -> tuple[Tensor | None, dict[str, float]]:
    """Return the initial vectors of the embedding and their coverage of the training text, in a resumed run as stored.

    Raises:
        InputError: if they have no word of the vocabulary.
    """
    if run.vectors is None:
        return None, {} if run.checkpoint is None else run.checkpoint.coverage
    store, name = run.store, run.vectors.name
    table = vector_table(run.vectors, store.vocabulary, seed=run.config.seed)
    coverage = table.coverage(store.split("train").token_counts(store.vocab_size))
    if run.primary:
        LOGGER.info(
            f"{name}: vectors for {coverage[VOCABULARY_COVERAGE]:.1%} of the vocabulary's words, which are "
            f"{coverage[TEXT_COVERAGE]:.1%} of the training reviews' tokens"
        )
    return table.values, coverage


def _selection(config: Config, directory: RunDirectory) -> list[Callback]:
    """Return early stopping and checkpoints: `best.ckpt` by the monitored metric, `last.ckpt` for a resume.

    The monitored metric is read after a validation. At an epoch's end, Lightning's default, it is missing in a run that
    was resumed since the last validation.
    """
    callbacks: list[Callback] = []
    stopping = config.early_stopping
    mode = best_is(stopping.monitor)
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
    places["accelerator"] = chosen_accelerator(config.trainer)
    if places["accelerator"] != config.trainer.accelerator and launch.rank == 0:
        LOGGER.info("this run trains on the processor; trainer.accelerator=mps would use this Mac's GPU")
    if config.data.segment_size is not None:
        arguments["reload_dataloaders_every_n_epochs"] = 1
    try:
        trainer = pl.Trainer(
            **(arguments | places),
            callbacks=callbacks,
            logger=logger,
            plugins=[AtomicCheckpointIO(), cluster],
            default_root_dir=directory.path,
            use_distributed_sampler=False,  # the batch plan divides the reviews among the ranks
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:  # ImportError: a TPU's library
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    keep_lightning_from_signals(trainer)
    return trainer


@contextlib.contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Give a second Ctrl-C back its name: Lightning leaves with SystemExit(1) after it has cleaned up.

    A third one may still end what hangs while the end is recorded; Lightning would have it ignored.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if trainer.interrupted:
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
        raise


def _where_to_view(wandb_run: WandbRun | None, tracker: OpenTracker | None, directory: RunDirectory) -> str:
    if tracker is not None:
        return tracker.view
    if wandb_run is None:
        return "no W&B run (tracking=none)"
    return wandb_run.url or f"wandb leet {shlex.quote(str(directory.path / 'wandb'))}"
