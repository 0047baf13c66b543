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
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self.validation: Logits | None = None
        """Of the validation that chose the checkpoint; None before the first one."""
        self.test: Logits | None = None
        """Of the test; None before it."""

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from no reviews."""
        self._batches = []

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
        logits = self._gather(trainer, "validation")
        value = float(trainer.callback_metrics.get(self._monitor, math.nan))
        value = -math.inf if math.isnan(value) else self._sign * value
        if not trainer.sanity_checking and (self._best_value is None or value > self._best_value):
            self._best_value, self.validation = value, logits

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from no reviews."""
        self._batches = []

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
        self.test = self._gather(trainer, "test")

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

    def _add(self, logits: Tensor, batch: Any) -> None:
        # Without a look at the numbers, so that no step waits for the device.
        self._batches.append((logits, batch["weights"], batch["indices"]))

    def _gather(self, trainer: pl.Trainer, split: str) -> Logits:
        """All ranks' logits: every rank has zeros where others have a review, so their sum is exact."""
        logits, weights, indices = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
        self._batches = []
        # A filler adds nothing to its row, whatever its logit is.
        added = torch.stack((torch.where(weights > 0, logits.float(), 0.0), weights.float()))
        both = added.new_zeros(2, self._reviews[split]).index_add_(1, indices, added)
        both = trainer.strategy.reduce(both, reduce_op="sum")
        assert isinstance(both, Tensor)
        logits, seen = both.cpu()
        return logits.clone(), seen > 0
