"""Signals that take the machine away: stop at a batch's end, with a checkpoint, and say so by the exit code."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from textrnn.resuming import ends_epoch

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Preempted(Exception):  # noqa: N818 - not an error: the run goes on elsewhere
    """The machine is wanted elsewhere; `last.ckpt` holds the run up to the last batch."""


class Preemption(Callback):
    """On SIGTERM, SIGUSR1 or SIGUSR2 writes `last.ckpt` after the current batch and leaves `fit` by `Preempted`.

    The handler only sets a flag: a checkpoint can't be taken in the middle of a step. Lightning registers its own
    SIGTERM handler during setup, so this one is put in its place when training starts. `should_stop` would not do:
    Lightning would then end the epoch as if all its batches had been seen.
    """

    def __init__(self, last_ckpt: Path) -> None:
        self._last_ckpt = last_ckpt
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over."""
        del trainer, pl_module
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops if a signal has come; on all ranks if it came to one.

        Raises:
            Preempted: after the checkpoint is written.
        """
        del pl_module, outputs, batch, batch_idx
        # A collective on several ranks, so that all of them leave at the same batch.
        self._requested = trainer.strategy.reduce_boolean_decision(self._requested, all=False)
        # After an epoch's last batch validation comes first; the epoch's own checkpoint is then the one to leave with.
        if self._requested and not ends_epoch(trainer):
            trainer.save_checkpoint(self._last_ckpt)
            raise Preempted

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops if a signal has come with the last batch or during validation.

        Raises:
            Preempted: the epoch's own checkpoint is written.
        """
        del pl_module
        if trainer.strategy.reduce_boolean_decision(self._requested, all=False) and self._last_ckpt.is_file():
            raise Preempted

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back."""
        del trainer, pl_module
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        del exception
        self.on_train_end(trainer, pl_module)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._requested = True
