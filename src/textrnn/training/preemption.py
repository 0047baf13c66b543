"""Signals and requests that end a run early: stop at a batch's end, with a checkpoint, and say so by the exit code."""

import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from textrnn.base.files import write_atomically
from textrnn.base.signals import Preempted, Signals, kept_from_children


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
    """Ends the run after the current batch, of training, validation or test, by `Preempted` or `Stopped`.

    A signal (SIGTERM, SIGUSR1, SIGUSR2) pre-empts; with `early-stop` in the run directory, or at W&B's request, the run
    is stopped. The signal is only noted: a checkpoint can't be taken in the middle of a step. `should_stop` would not
    do: Lightning would then end the epoch as if all its batches had been seen.

    Leaving costs the resumed run nothing but a validation or a test that was under way, which it does again from the
    start. `last.ckpt` is written after a batch of training or validation; before the first one and in the test it is
    already what it should be.

    Whether to leave is asked of all ranks, so that all of them leave at the same batch.
    """

    def __init__(self, last_ckpt: Path, early_stop: EarlyStop, signals: Signals) -> None:
        self._last_ckpt = last_ckpt
        self._early_stop = early_stop
        self._signals = signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves a run that has done nothing yet; one to be stopped takes a batch, for `last.ckpt` to hold it."""
        del pl_module
        if _any_rank(trainer, self._signals.received is not None and not self._is_stopped()):
            raise Preempted

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and leaves if it is asked for."""
        del pl_module, outputs, batch, batch_idx
        self._save_and_leave_if_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Saves and leaves if it is asked for; there is nothing to save while Lightning tries validation out."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        if not trainer.sanity_checking:
            self._save_and_leave_if_asked(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves if it was asked for since training ended."""
        del pl_module
        self._leave_if_asked(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leaves if it is asked for, but not after the last batch: then the run is done."""
        del pl_module, outputs, batch, dataloader_idx
        if batch_idx + 1 < trainer.num_test_batches[0]:
            self._leave_if_asked(trainer)

    def _save_and_leave_if_asked(self, trainer: Trainer) -> None:
        # Gradients that are still added up (`accumulate_grad_batches`) are in no checkpoint: their step comes first.
        within_step = trainer.fit_loop.epoch_loop._should_accumulate()
        if not within_step and _any_rank(trainer, self._is_asked()):
            trainer.save_checkpoint(self._last_ckpt)
            self._leave(trainer)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if _any_rank(trainer, self._is_asked()):
            self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        if _any_rank(trainer, self._is_stopped()):
            raise Stopped
        raise Preempted

    def _is_asked(self) -> bool:
        return self._signals.received is not None or self._early_stop.is_asked()

    def _is_stopped(self) -> bool:
        return self._early_stop.is_asked() or self._early_stop.has_file


def _any_rank(trainer: Trainer, asked: bool) -> bool:
    """Whether it is asked of any rank: the same answer on all of them, which all come here together."""
    return trainer.strategy.reduce_boolean_decision(asked, all=False)


class _NoHandlers(_SignalConnector):
    """Lightning's handlers, left out."""

    def register_signal_handlers(self) -> None:
        """Does nothing, so that `teardown` has nothing to restore either."""


def keep_lightning_from_signals(trainer: Trainer) -> None:
    """Leave SIGTERM, SIGUSR1 and SIGUSR2 to `Signals` and `Preemption`.

    Lightning 2.6 would put handlers of its own in their place when it begins to train or test. The one of SIGTERM sends
    a message to the other ranks from inside the handler: if they are in another collective by then, as they mostly
    are, all wait for ever. That of SLURM saves a checkpoint in the middle of a step. Before each training batch
    Lightning also broadcasts whether its handler has run, which it never has now: a second collective beside ours.
    """
    trainer._signal_connector = _NoHandlers(trainer)
    # Lightning has no hook for either, so its methods are replaced.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        start = launcher._call_children_scripts

        def start_without_signals() -> None:
            with kept_from_children():
                start()

        launcher._call_children_scripts = start_without_signals  # type: ignore[method-assign]
