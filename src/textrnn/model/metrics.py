"""What is measured over a split: loss, accuracy, F1 and AUROC, each review of all ranks exactly once."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryF1Score

from textrnn.base.console import LOGGER


class WeightedMean(Metric):
    """Mean of values by their weights, over all ranks, in the values' type: float64 for a run in `64-true`.

    Unlike torchmetrics' MeanMetric it keeps NaN: the loss of a run that diverged is NaN, not that of its other reviews.
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Add values; both arguments (batch,)."""
        # Not in place, which would round float64 to the first zero's float32.
        self.total = self.total + (values * weights).sum()
        self.weight = self.weight + weights.sum()

    def compute(self) -> Tensor:
        """The mean, a scalar; NaN before the first value."""
        return self.total / self.weight


class _OrNaN(Metric):
    """Another metric, but NaN if one of the predictions is, which would count as a negative review."""

    lost: Tensor

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self.add_state("lost", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add predictions; both arguments (batch,)."""
        self.lost = self.lost + predictions.isnan().any()
        self.metric.update(predictions, targets)

    def compute(self) -> Tensor:
        """The metric, a scalar."""
        return torch.where(self.lost > 0, torch.nan, self.metric.compute())

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()
        self.metric.reset()


class ReviewMetrics(nn.Module):
    """Loss, accuracy, F1 and AUROC over the reviews of a split, over all ranks; fillers (weight 0) don't count.

    All are NaN if the model has diverged so far that one of its logits is.

    Batches are kept, 20 bytes a review, and handed to torchmetrics together: an update costs as much for a batch of 64
    reviews as for thousands, and five of them took 2 % of a validation on two cores.
    """

    FILLER = -1

    def __init__(self) -> None:
        super().__init__()
        self.loss = WeightedMean()
        self.positive = WeightedMean()
        self.accuracy = _OrNaN(BinaryAccuracy(ignore_index=self.FILLER, validate_args=False))
        self.f1 = _OrNaN(BinaryF1Score(ignore_index=self.FILLER, validate_args=False))
        self.auroc = _OrNaN(BinaryAUROC(ignore_index=self.FILLER, validate_args=False))
        self._batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def reset(self) -> None:
        """Forget all reviews."""
        self._batches.clear()
        for metric in (self.loss, self.positive, self.accuracy, self.f1, self.auroc):
            metric.reset()

    def update(self, logits: Tensor, losses: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Add the reviews of a batch; each argument (batch,)."""
        self._batches.append((logits.detach(), losses.detach(), labels, weights))

    def measured(self) -> dict[str, Metric]:
        """The metrics of all reviews so far, by name; without AUROC where the reviews of all ranks have one label."""
        if self._batches:
            logits, losses, labels, weights = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
            self._batches.clear()
            self.loss.update(losses, weights)
            self.positive.update(labels.to(weights.dtype), weights)
            # Always probabilities: torchmetrics takes logits that all happen to lie in [0, 1] for probabilities.
            probabilities, targets = torch.sigmoid(logits), labels.masked_fill(weights == 0, self.FILLER)
            for metric in (self.accuracy, self.f1, self.auroc):
                metric.update(probabilities, targets)
        metrics = {"loss": self.loss, "accuracy": self.accuracy, "f1": self.f1}
        return {**metrics, "auroc": self.auroc} if 0 < float(self.positive.compute()) < 1 else metrics

    def log(self, module: pl.LightningModule, split: str) -> None:
        """Log the metrics of all ranks as `<split>/loss` and so on, at the end of the split's epoch.

        AUROC needs both labels; where a short run sees only one, it is left out and a line says so.
        """
        metrics = self.measured()
        if "auroc" not in metrics:
            LOGGER.info("%s/auroc is left out: all reviews have the same label", split)
        for name, metric in metrics.items():
            module.log(f"{split}/{name}", metric, on_step=False, on_epoch=True)
