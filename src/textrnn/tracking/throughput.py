"""Tokens per second: real tokens, whole steps."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override


class Throughput(pl.Callback):
    """Log `train/tokens_per_second` and `train/padding` every `log_every_n_steps` steps, the trainer's own.

    Tokens are those of real reviews (weight above 0), without padding, summed over ranks; positions include the
    padding. Time is that of whole steps, including the wait for data; the clock stops for validation and the writing of
    checkpoints. Tokens are counted on the device and read together with the clock, so a step needs no synchronization
    with the host.

    The row also gets the module's `train_metrics` of the same steps, before the callbacks that write checkpoints, so
    that no checkpoint is ahead of `metrics.csv`.

    Totals are stored in the checkpoint and continue in a resumed run.
    """

    def __init__(self, log_every_n_steps: int) -> None:
        self._log_every_n_steps = log_every_n_steps
        self.tokens = 0
        """Tokens trained on so far, over all ranks, epochs and resumes."""
        self.seconds = 0.0
        """Seconds of training for these tokens."""
        self._window = (0, 0, 0.0)  # tokens, positions and seconds since the last report
        self._pending: Tensor | None = None  # tokens and positions of this rank since the clock was last read
        self._started: float | None = None
        self._reported_step = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count on the training device."""
        self._pending = torch.zeros(2, dtype=torch.int64, device=pl_module.device)
        self._reported_step = trainer.global_step

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock before the wait for the first batch."""
        self._start_clock()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock again after a validation or a checkpoint."""
        self._start_clock()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and report when the trainer logs."""
        assert self._pending is not None
        for reviews in (batch, batch["unlabelled"]) if "unlabelled" in batch else (batch,):
            real = reviews["weights"] > 0
            positions = real.sum() * reviews["token_ids"].shape[1]
            self._pending += torch.stack(((reviews["lengths"] * real).sum(), positions))
        step = trainer.global_step
        if self._log_every_n_steps and step != self._reported_step and step % self._log_every_n_steps == 0:
            self._read_clock(trainer)
            self._start_clock()
            self._report(trainer, pl_module)
            self._reported_step = step

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._read_clock(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: between epochs there are validation, checkpoints and pictures."""
        self._read_clock(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop the clock and put totals and the open window into the checkpoint."""
        self._read_clock(trainer)
        checkpoint["throughput"] = {"tokens": self.tokens, "seconds": self.seconds, "window": list(self._window)}

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the totals of a resumed run, but not at the test, which loads the older `best.ckpt`."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint["throughput"]
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        tokens, positions, seconds = state["window"]
        self._window = (tokens, positions, seconds)

    def _start_clock(self) -> None:
        if self._started is None:
            self._started = time.perf_counter()

    def _read_clock(self, trainer: pl.Trainer) -> None:
        """Stop the clock and add the counts since its start over all ranks, which call this together."""
        if self._started is None or self._pending is None:
            return
        counted = trainer.strategy.reduce(self._pending.clone(), reduce_op="sum")
        assert isinstance(counted, Tensor)
        tokens, positions = (int(count) for count in counted.tolist())
        # Read after the counts, which wait for the device to finish their steps.
        seconds = time.perf_counter() - self._started
        self._started = None
        self._pending.zero_()
        self.tokens += tokens
        self.seconds += seconds
        self._window = (self._window[0] + tokens, self._window[1] + positions, self._window[2] + seconds)

    def _report(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        tokens, positions, seconds = self._window
        self._window = (0, 0, 0.0)
        values = {"train/tokens_per_second": tokens / seconds, "train/padding": 1 - tokens / positions}
        values |= getattr(pl_module, "train_metrics", {})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
