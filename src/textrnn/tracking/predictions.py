"""The predictions behind a run's last figures: those of the test, or of the validation that chose the checkpoint."""

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

Logits = tuple[Tensor, Tensor]
"""Logits (reviews,) float32 by their row in the split, and which rows were predicted, (reviews,) bool; on the CPU."""


class Predictions(pl.Callback):
    """Keeps the logits of the best validation so far and of the test, of all ranks, each review once.

    A step function must return the logits of its batch, (batch,); a batch has `indices` and `weights`, 0 for what is
    no review. The best validation is in the checkpoint, so a resumed run has it too. Put it before the callbacks that
    write checkpoints.

    Args:
        reviews: Reviews in the splits "validation" and "test".
        monitor: The metric that chooses the checkpoint.
        largest: Whether its largest value is the best, else its smallest.
    """

    def __init__(self, reviews: Mapping[str, int], *, monitor: str, largest: bool) -> None:
        self._reviews = reviews
        self._monitor = monitor
        self._sign = 1 if largest else -1
        self._best_value: float | None = None
        self._logits = torch.empty(0)
        self._seen = torch.empty(0)
        self.validation: Logits | None = None
        """Of the validation that chose the checkpoint; None before the first one."""
        self.test: Logits | None = None
        """Of the test; None before it."""

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from no reviews."""
        self._start("validation", pl_module)

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
        """Keep a batch."""
        self._add(outputs, batch)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch if it is the best, by the rule that keeps its checkpoint: an equal one is not better."""
        logits = self._gather(trainer)
        value = float(trainer.callback_metrics.get(self._monitor, math.nan))
        value = -math.inf if math.isnan(value) else self._sign * value
        if not trainer.sanity_checking and (self._best_value is None or value > self._best_value):
            self._best_value, self.validation = value, logits

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from no reviews."""
        self._start("test", pl_module)

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
        """Keep a batch."""
        self._add(outputs, batch)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the test."""
        self.test = self._gather(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        if self.validation is None:
            return {}
        logits, seen = self.validation
        return {"best_value": self._best_value, "logits": logits, "seen": seen}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._best_value = state_dict["best_value"]
        self.validation = (state_dict["logits"], state_dict["seen"])

    def _start(self, split: str, pl_module: pl.LightningModule) -> None:
        self._logits = torch.zeros(self._reviews[split], device=pl_module.device)
        self._seen = torch.zeros_like(self._logits)

    def _add(self, logits: Tensor, batch: Any) -> None:
        # Without a look at the numbers, so that no step waits for the device; a filler adds nothing to its row.
        weights = batch["weights"].float()
        self._logits.index_add_(0, batch["indices"], torch.where(weights > 0, logits.float(), 0.0))
        self._seen.index_add_(0, batch["indices"], weights)

    def _gather(self, trainer: pl.Trainer) -> Logits:
        """All ranks' logits: every rank has zeros where others have a review, so their sum is exact."""
        both = trainer.strategy.reduce(torch.stack((self._logits, self._seen)), reduce_op="sum")
        assert isinstance(both, Tensor)
        logits, seen = both.cpu()
        return logits.clone(), seen > 0
