"""Progress of training: a line for each finished epoch, and on a terminal a bar below the lines."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import Progress, TextColumn
from typing_extensions import override

from textrnn.base.console import LOGGER, duration, terminal_bar
from textrnn.tracking.logger import RunLogger

SECONDS_BETWEEN_LINES = 12.0
SECONDS_BETWEEN_DRAWINGS = 0.1
SHOWN = {"train/loss": "loss", "val/accuracy": "val acc", "val/perplexity": "val ppl"}
"""The metrics that are shown while training, by their short names."""


def run_progress(run_logger: RunLogger, total_steps: Callable[[], float]) -> ProgressBar:
    """Return the progress display that suits stderr; it shows what `run_logger` logged last.

    `total_steps`: returns the last step; infinite where it isn't known.
    """
    kind = TerminalProgress if Console(stderr=True).is_terminal else LineProgress
    return kind(run_logger, total_steps)


class LineProgress(ProgressBar):
    """A line at the end of each epoch and about every 12 seconds, through the logger `textrnn`; epochs count from 1.

    `epoch 1/5  step 352/1760  loss 0.3100  val acc 0.8740  48k tok/s  1 min 50 s`
    """

    def __init__(self, run_logger: RunLogger, total_steps: Callable[[], float]) -> None:
        super().__init__()
        self._latest = run_logger.latest
        self._total_steps = total_steps
        self._enabled = True
        self._started = self._last_line = time.monotonic()

    @override
    def disable(self) -> None:
        """Log nothing; Lightning calls this on ranks above 0."""
        self._enabled = False

    @override
    def enable(self) -> None:
        """Log again."""
        self._enabled = True

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = self._last_line = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a line if the last one is old enough."""
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._line(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log a line; validation is over by now."""
        self._line(trainer)

    def _line(self, trainer: pl.Trainer) -> None:
        self._last_line = time.monotonic()
        if self._enabled:
            steps = self._total_steps()
            step = f"step {trainer.global_step}/{int(steps)}" if math.isfinite(steps) else f"step {trainer.global_step}"
            LOGGER.info(f"{_epoch(trainer)}  {step}  {self._metrics()}")

    def _metrics(self) -> str:
        return "  ".join([*_shown(self._latest), duration(time.monotonic() - self._started)])


class TerminalProgress(LineProgress):
    """Also a bar for the batches of the epoch, the validation or the test; lines only of finished epochs.

    The metrics are plain numbers by then: asking the model for its metrics at every step would make the host wait for
    the device.
    """

    def __init__(self, run_logger: RunLogger, total_steps: Callable[[], float]) -> None:
        super().__init__(run_logger, total_steps)
        self._bar: Progress | None = None
        self._drawn = 0.0
        self._batches = 0

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch."""
        self._show(_epoch(trainer), trainer.num_training_batches)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._batches = batch_idx + 1
        self._count(self._batches)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._show("validation", sum(batches))

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._count(batch_idx + 1)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch again."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show(_epoch(trainer), trainer.num_training_batches, self._batches)
        else:
            self._stop()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the test."""
        self._started = time.monotonic()
        self._show("test", sum(trainer.num_test_batches))

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._count(batch_idx + 1)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _show(self, what: str, batches: float, completed: int = 0) -> None:
        if not self._enabled:
            return
        if self._bar is None:
            # No thread that draws: it would take time from the steps.
            self._bar = terminal_bar(TextColumn("{task.fields[metrics]}"), auto_refresh=False)
            self._task = self._bar.add_task(what, metrics="")
            self._bar.start()
        total = batches if math.isfinite(batches) else None
        self._bar.reset(self._task, description=what, total=total, completed=completed, metrics=self._metrics())
        self._bar.refresh()

    def _count(self, batches: int) -> None:
        if self._bar is not None and time.monotonic() - self._drawn >= SECONDS_BETWEEN_DRAWINGS:
            self._drawn = time.monotonic()
            self._bar.update(self._task, completed=batches, metrics=self._metrics(), refresh=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: pl.Trainer) -> str:
    epochs = trainer.max_epochs
    total = f"/{epochs}" if epochs is not None and epochs > trainer.current_epoch else ""
    return f"epoch {trainer.current_epoch + 1}{total}"


def _shown(latest: Mapping[str, float]) -> list[str]:
    shown = [f"{name} {latest[key]:.4f}" for key, name in SHOWN.items() if key in latest]
    if (speed := latest.get("train/tokens_per_second")) is not None:
        digits = f"{speed / 1e6:.1f}M" if speed >= 1e6 else f"{speed / 1e3:.0f}k" if speed >= 1e3 else f"{speed:.0f}"
        shown.append(f"{digits} tok/s")
    return shown
