"""Progress of training: a bar on a terminal, else plain lines."""

import math
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar
from rich.console import Console
from typing_extensions import override

from textrnn.base.console import LOGGER, duration
from textrnn.tracking.logger import RunLogger

SECONDS_BETWEEN_LINES = 12.0
SHOWN = ("train/loss", "val/accuracy", "train/tokens_per_second")
"""The metrics that are shown while training."""


def run_progress(run_logger: RunLogger, *, counts_steps: bool = True) -> ProgressBar:
    """Return the progress display that suits stdout; it shows what `run_logger` logged last.

    `counts_steps`: whether all epochs have the steps of the one at hand, so that their sum is known.
    """
    if Console().is_terminal:
        return TerminalProgress(run_logger)
    return LineProgress(run_logger, counts_steps=counts_steps)


class TerminalProgress(RichProgressBar):
    """Lightning's Rich bar, showing the metrics that were logged last.

    They are plain numbers by then: asking the model for its metrics at every step would make the host wait for the
    device.
    """

    def __init__(self, run_logger: RunLogger) -> None:
        super().__init__(refresh_rate=5, leave=True)
        self._latest = run_logger.latest

    @override
    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the shown metrics, formatted."""
        return dict(_shown(self._latest))

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        """Count epochs from 1, as the lines do."""
        epochs = self.trainer.max_epochs
        total = f"/{epochs}" if epochs is not None and epochs > 0 else ""
        return f"Epoch {current_epoch + 1}{total}".ljust(len(self.validation_description))


class LineProgress(ProgressBar):
    """A line at the end of each epoch and about every 12 seconds, through the logger `textrnn`.

    `epoch 1/5  step 352/1760  train/loss 0.3100  val/accuracy 0.8740  48,000 tokens/s  1 min 50 s`
    """

    def __init__(self, run_logger: RunLogger, *, counts_steps: bool = True) -> None:
        super().__init__()
        self._latest = run_logger.latest
        self._counts_steps = counts_steps
        self._enabled = True
        self._started = 0.0
        self._last_line = 0.0

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
        if not self._enabled:
            return
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        epoch = trainer.current_epoch + 1
        steps = trainer.estimated_stepping_batches if self._counts_steps else math.inf
        parts = [
            f"epoch {epoch}/{epochs}" if epochs else f"epoch {epoch}",
            f"step {trainer.global_step}/{int(steps)}" if math.isfinite(steps) else f"step {trainer.global_step}",
        ]
        for name, text in _shown(self._latest).items():
            parts.append(text if name == "speed" else f"{name} {text}")
        LOGGER.info("  ".join([*parts, duration(self._last_line - self._started)]))


def _shown(latest: Mapping[str, float]) -> dict[str, str]:
    shown = {}
    for name in SHOWN:
        if name not in latest:
            continue
        if name == "train/tokens_per_second":
            shown["speed"] = f"{latest[name]:,.0f} tokens/s"
        else:
            shown[name] = f"{latest[name]:.4f}"
    return shown
