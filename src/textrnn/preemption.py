"""Signals and requests that end a run early: stop at a batch's end, with a checkpoint, and say so by the exit code."""

import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from textrnn.resuming import ends_epoch
from textrnn.signals import Preempted, Signals
from textrnn.tracking.rundir import write_atomically


class Stopped(Exception):  # noqa: N818 - not an error: the run is not worth going on with
    """A sweep, or a person in W&B, stops the run for good; `last.ckpt` holds it up to the last batch."""


class EarlyStop:
    """Whether the run shall stop for good: W&B says so, or a sweep has put `early-stop` into the run directory.

    W&B asks from a thread of its own. A sweep without W&B's server writes the file, with its reason, and then sends
    SIGTERM, which alone would mean that the machine is wanted. The file stays: it tells a job script's `resume=auto`
    that this run is over.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the run to stop after its current batch, from any thread."""
        self._asked.set()

    def is_asked(self, *, within: float = 0.0) -> bool:
        """Return whether W&B has asked, or does within so many seconds."""
        return self._asked.wait(within)

    @property
    def has_file(self) -> bool:
        """Whether the run directory says that the run is over."""
        return self._file.is_file()

    def keep(self) -> None:
        """Leave the file, if W&B was the one to ask."""
        if not self.has_file:
            write_atomically(self._file, "stopped through W&B\n")


class Preemption(Callback):
    """Ends the run after the current batch, with `last.ckpt` written, by `Preempted` or `Stopped`.

    A signal (SIGTERM, SIGUSR1, SIGUSR2) pre-empts; with `early-stop` in the run directory, or at W&B's request, the run
    is stopped. The signal is only noted: a checkpoint can't be taken in the middle of a step. Lightning registers
    its own SIGTERM handler during setup, so ours is put in its place when training starts. `should_stop` would not
    do: Lightning would then end the epoch as if all its batches had been seen.
    """

    def __init__(self, last_ckpt: Path, early_stop: EarlyStop, signals: Signals) -> None:
        self._last_ckpt = last_ckpt
        self._early_stop = early_stop
        self._signals = signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals from Lightning."""
        del trainer, pl_module
        self._signals.take()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops if it is asked for; on all ranks if it was asked of one.

        Raises:
            Preempted, Stopped: after the checkpoint is written.
        """
        del pl_module, outputs, batch, batch_idx
        # A collective on several ranks, so that all of them leave at the same batch.
        requested = trainer.strategy.reduce_boolean_decision(self._requested(), all=False)
        # After an epoch's last batch validation comes first; the epoch's own checkpoint is then the one to leave with.
        if requested and not ends_epoch(trainer):
            trainer.save_checkpoint(self._last_ckpt)
            self._leave(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops if it was asked for with the last batch or during validation.

        Raises:
            Preempted, Stopped: the epoch's own checkpoint is written.
        """
        del pl_module
        requested = trainer.strategy.reduce_boolean_decision(self._requested(), all=False)
        if requested and self._last_ckpt.is_file():
            self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        asked = self._early_stop.is_asked() or self._early_stop.has_file
        if trainer.strategy.reduce_boolean_decision(asked, all=False):
            raise Stopped
        raise Preempted

    def _requested(self) -> bool:
        return self._signals.received is not None or self._early_stop.is_asked()
