"""The callback that gathers a split's predictions, logs their metrics and keeps those for the run's report."""

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from textrnn.base.console import LOGGER
from textrnn.data.review_file import Split
from textrnn.evaluation.calibration import fit_temperature
from textrnn.evaluation.metrics import SplitPredictions


class Predictions(pl.Callback):
    """Log `val/...` and `test/...` loss, accuracy, f1 and auroc; keep the best validation so far and the test.

    Each review of all ranks counts once. A step function must return the logits of its batch; a batch has `indices` and
    `weights`, 0 for a filler. The best validation is in the checkpoint, so a resumed run has it too; this callback must
    come before those that write checkpoints.

    Batches are kept and measured together: a metric's update costs the same for 64 reviews as for thousands, and
    updates of five metrics per batch took 2 % of a validation on two cores.

    Args:
        splits: The splits "validation" and "test".
        monitor: The metric that chooses the checkpoint.
        mode: "max" if its largest value is the best, "min" if its smallest.
        classes: Names of the classes, by id.
    """

    def __init__(self, splits: Mapping[str, Split], *, monitor: str, mode: str, classes: tuple[str, ...]) -> None:
        self._splits = splits
        self._classes = classes
        self._monitor = monitor
        self._sign = 1 if mode == "max" else -1
        self._best_value: float | None = None
        self._best_step = -1
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self.validation: SplitPredictions | None = None
        """Predictions of the validation that chose the checkpoint, and their temperature; None before the first one."""
        self.test: SplitPredictions | None = None
        """Predictions of the test; None before it."""

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the batches of an earlier epoch."""
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
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics; keep the predictions if they are better than the best, by the rule of `best.ckpt`."""
        predictions = self._gather(trainer, self._splits["validation"])
        value = self._sign * _log_metrics(pl_module, predictions, "val")[self._monitor]
        value = -math.inf if math.isnan(value) else value
        if not trainer.sanity_checking and (self._best_value is None or value > self._best_value):
            predictions.temperature = fit_temperature(predictions.logits, predictions.labels)
            self._best_value, self._best_step, self.validation = value, trainer.global_step, predictions

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the batches of an earlier epoch."""
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
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics and keep the predictions."""
        self.test = self._gather(trainer, self._splits["test"])
        _log_metrics(pl_module, self.test, "test")

    def temperature_at(self, step: int) -> float | None:
        """Return the temperature of the weights of a step, if they are those of the best validation."""
        return self.validation.temperature if self.validation is not None and self._best_step == step else None

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the best validation so far."""
        if self.validation is None:
            return {}
        return {
            "best_value": self._best_value,
            "best_step": self._best_step,
            "indices": self.validation.indices,
            "logits": self.validation.logits,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validation so far."""
        self._best_value = state_dict["best_value"]
        self._best_step = state_dict.get("best_step", -1)  # earlier versions did not store it
        self.validation = SplitPredictions.of_rows(
            self._splits["validation"], state_dict["indices"], state_dict["logits"], self._classes
        )
        self.validation.temperature = fit_temperature(self.validation.logits, self.validation.labels)

    def _add(self, logits: Tensor, batch: Any) -> None:
        # The values are not read here, so that no step waits for the device.
        self._batches.append((logits, batch["weights"], batch["indices"]))

    def _gather(self, trainer: pl.Trainer, split: Split) -> SplitPredictions:
        """Return the predictions of all ranks, the same on each, and drop the batches."""
        logits, weights, indices = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
        self._batches = []
        is_review = weights > 0
        logits, indices = logits.to(torch.promote_types(logits.dtype, torch.float32))[is_review], indices[is_review]
        if trainer.world_size > 1:
            # Each rank has zeros in place of the other ranks' reviews, so the sum is exact.
            columns = logits.unsqueeze(1) if logits.ndim == 1 else logits
            by_row = logits.new_zeros(len(split), columns.shape[1] + 1)
            by_row[indices] = torch.cat((columns, columns.new_ones(len(columns), 1)), dim=1)
            by_row = trainer.strategy.reduce(by_row, reduce_op="sum")
            assert isinstance(by_row, Tensor)
            indices = by_row[:, -1].nonzero().flatten()
            logits = by_row[indices, :-1].reshape(-1, *logits.shape[1:])
        return SplitPredictions.of_rows(split, indices.cpu(), logits.cpu(), self._classes)


def _log_metrics(module: pl.LightningModule, predictions: SplitPredictions, prefix: str) -> dict[str, float]:
    """Log and return the metrics as `<prefix>/loss` and so on; without AUROC, if it has no value, and with a line."""
    metrics = {f"{prefix}/{name}": value for name, value in predictions.metrics().items()}
    if not predictions.curve_classes:
        LOGGER.info("%s/auroc is left out: all reviews have the same label", prefix)
    for name, value in metrics.items():
        # Lightning would round a float to float32. All ranks have the same value; their maximum is exact, unlike their
        # mean. Without `sync_dist` Lightning warns.
        exact = torch.tensor(value, dtype=predictions.logits.dtype, device=module.device)
        module.log(name, exact, on_step=False, on_epoch=True, reduce_fx="max", sync_dist=True)
    return metrics
