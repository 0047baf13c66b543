"""Signals and requests that end a run early: it stops after a batch, with a checkpoint and its own exit code."""

import signal
import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from textrnn.base.files import write_atomically
from textrnn.base.lightning_internals import accumulates, remove_signal_handling, wrap_process_start
from textrnn.base.signals import Preempted, Signals, kept_from_children


class Stopped(Exception):  # noqa: N818 - not an error: somebody has decided so
    """A sweep, or a person in W&B, stops the run for good; `last.ckpt` holds its last batch."""


class Interrupted(Exception):  # noqa: N818 - not an error: somebody has decided so
    """A person has pressed Ctrl-C; `last.ckpt` holds the run's last batch."""


class EarlyStop:
    """A request to stop the run for good, from W&B or by a file `early-stop` that a sweep writes into its directory.

    W&B's client makes the request in another thread. A sweep without W&B's server writes the file, with its reason, and
    then sends SIGTERM, which alone would be a pre-emption. The file stays, so that a job script's `resume=auto` finds
    the run ended.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the run to stop after its current batch, from any thread."""
        self._asked.set()

    def is_asked(self, *, within: float = 0.0) -> bool:
        """Return whether W&B has asked, waiting up to `within` seconds for it."""
        return self._asked.wait(within)

    @property
    def has_file(self) -> bool:
        """Whether the run directory holds the request."""
        return self._file.is_file()

    def keep(self) -> None:
        """Write the file if the request came from W&B."""
        if not self.has_file:
            write_atomically(self._file, "stopped through W&B\n")


class Preemption(Callback):
    """End the run after the current batch of training, validation or test, by `Preempted`, `Interrupted` or `Stopped`.

    Ctrl-C interrupts, any other signal pre-empts; with `early-stop` in the run directory, or at W&B's request, the run
    is stopped. The signal is only noted: a checkpoint can't be taken in the middle of a step. `should_stop` would not
    do: Lightning would then end the epoch as if all its batches had been seen. The exception says where the run is.

    A resumed run repeats only an unfinished validation or test. `last.ckpt` is written after a batch of training or
    validation; before the first batch and during the test it is already up to date.

    All ranks agree on leaving, so that all of them leave at the same batch.
    """

    def __init__(self, last_ckpt: Path, early_stop: EarlyStop, signals: Signals) -> None:
        self._last_ckpt = last_ckpt
        self._early_stop = early_stop
        self._signals = signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave before the first batch; a run to be stopped trains one batch first, for `last.ckpt`."""
        del pl_module
        if _any_rank(trainer, self._signals.received is not None and not self._is_stopped()):
            raise self._ending_by_signal(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave if a request is there."""
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
        """Save and leave if a request is there; during the sanity check there is nothing to save."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        if not trainer.sanity_checking:
            self._save_and_leave_if_asked(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave if a request has come since training ended."""
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
        """Leave on a request, but not after the last batch, when the run is done."""
        del pl_module, outputs, batch, dataloader_idx
        if batch_idx + 1 < trainer.num_test_batches[0]:
            self._leave_if_asked(trainer)

    def _save_and_leave_if_asked(self, trainer: Trainer) -> None:
        # Accumulated gradients (`accumulate_grad_batches`) are in no checkpoint: their step comes first.
        if not accumulates(trainer) and _any_rank(trainer, self._is_asked()):
            trainer.save_checkpoint(self._last_ckpt)
            self._leave(trainer, f", saved in {self._last_ckpt}")

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if _any_rank(trainer, self._is_asked()):
            self._leave(trainer)

    def _leave(self, trainer: Trainer, saved: str = "") -> None:
        if _any_rank(trainer, self._is_stopped()):
            raise Stopped(f"{_position(trainer)}{saved}")
        raise self._ending_by_signal(trainer, saved)

    def _ending_by_signal(self, trainer: Trainer, saved: str = "") -> Exception:
        is_interrupted = _any_rank(trainer, self._signals.received == signal.SIGINT)
        return (Interrupted if is_interrupted else Preempted)(f"{_position(trainer)}{saved}")

    def _is_asked(self) -> bool:
        return self._signals.received is not None or self._early_stop.is_asked()

    def _is_stopped(self) -> bool:
        return self._early_stop.is_asked() or self._early_stop.has_file


def _position(trainer: Trainer) -> str:
    """Where the run is, for a person, who counts epochs from 1."""
    phase = "the test" if trainer.testing else f"epoch {trainer.current_epoch + 1}"
    return f"in {phase} at step {trainer.global_step}"


def _any_rank(trainer: Trainer, asked: bool) -> bool:
    """Return whether any rank has a request; a collective, with the same result on all ranks."""
    return trainer.strategy.reduce_boolean_decision(asked, all=False)


def keep_lightning_from_signals(trainer: Trainer) -> None:
    """Leave signals to `Signals` and `Preemption`.

    Lightning 2.6 would install its own handlers when training or test begins. Its SIGTERM handler sends a message to
    the other ranks: if they are in another collective, as they usually are, all ranks deadlock. Its SLURM handler saves
    a checkpoint in the middle of a step. Before each training batch Lightning also broadcasts whether its handler has
    run: a second collective beside ours.
    """
    remove_signal_handling(trainer)
    wrap_process_start(trainer, kept_from_children())  # as a decorator
