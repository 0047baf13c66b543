"""Predictions of a split and their metrics, curves, accuracy by length and mistakes.

torchmetrics takes as long to import as everything else here, so only the functions that use it import it.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from textrnn.config.schema import DataConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from textrnn.model.network import TextClassifier

CONFIDENCE_95 = 1.959964
"""Half width, in standard deviations, of the interval that holds 95 % of a normal distribution."""

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""x and y of a curve's points, in order."""


@dataclass(kw_only=True, slots=True)
class LengthBin:
    """The reviews of similar length."""

    shortest: int
    """Tokens of the shortest review: of the whole review, even if the model reads only a part."""
    longest: int
    """Tokens of the longest."""
    reviews: int
    accuracy: float
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: float
    """Upper end."""


@dataclass(kw_only=True, slots=True)
class SplitPredictions:
    """Predictions of at least one review of a split: each field (reviews,), on the CPU, in the order of reading."""

    logits: Tensor
    """float32, or float64 for a run in `64-true`."""
    labels: Tensor
    """int64, 0 negative or 1 positive."""
    lengths: Tensor
    """int64, tokens of each whole review."""
    indices: Tensor
    """int64, each review's row in its split."""

    @classmethod
    def of_rows(cls, split: Split, indices: Tensor, logits: Tensor) -> Self:
        """Join the logits of the rows `indices`, both (reviews,), with the rows' labels and lengths."""
        rows = indices.numpy()
        labels, lengths = (torch.from_numpy(column[rows]).long() for column in (split.labels, split.lengths))
        return cls(logits=logits, labels=labels, lengths=lengths, indices=indices)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probabilities(self) -> Tensor:
        """Probability that each review is positive; NaN where the logit is NaN."""
        return self.logits.sigmoid()

    @property
    def correct(self) -> Tensor:
        """Whether each prediction equals its label, (reviews,) bool."""
        return (self.probabilities > 0.5) == (self.labels == 1)

    @property
    def both_labels(self) -> bool:
        """Whether there are positive and negative reviews; without both there is no ROC curve."""
        return 0 < int(self.labels.sum()) < len(self)

    @property
    def has_diverged(self) -> bool:
        """Whether a logit is NaN; all metrics are NaN then."""
        return bool(self.logits.isnan().any())

    def metrics(self) -> dict[str, float]:
        """Return loss (nats a review), accuracy, F1 of the positive class and, with both labels, area under the ROC.

        All are NaN if the model has diverged: torchmetrics would count a NaN as a negative prediction.
        """
        from torchmetrics.functional.classification import binary_accuracy, binary_auroc, binary_f1_score

        # Always probabilities: torchmetrics takes logits that all happen to lie in [0, 1] for probabilities.
        probabilities, labels = self.probabilities, self.labels
        metrics = {
            "loss": binary_cross_entropy_with_logits(self.logits, labels.to(self.logits.dtype)),
            "accuracy": binary_accuracy(probabilities, labels, validate_args=False),
            "f1": binary_f1_score(probabilities, labels, validate_args=False),
        }
        if self.both_labels:
            metrics["auroc"] = binary_auroc(probabilities, labels, validate_args=False)
        if self.has_diverged:
            return dict.fromkeys(metrics, math.nan)
        return {name: value.item() for name, value in metrics.items()}

    def confusion_matrix(self) -> list[list[int]]:
        """Return counts, rows by label and columns by prediction, negative first."""
        predicted = (self.probabilities > 0.5).long()
        counts: list[list[int]] = torch.bincount(2 * self.labels + predicted, minlength=4).reshape(2, 2).tolist()
        return counts

    def mistakes(self, most: int) -> list[int]:
        """Return the indices of up to `most` wrong predictions, the most confident first, ties by row."""
        by_row = self.indices.argsort()
        confidence = torch.where(self.correct, -torch.inf, self.logits.abs().nan_to_num(nan=0.0))[by_row]
        order = by_row[torch.argsort(confidence, descending=True, stable=True)]
        return [int(place) for place in order[: min(most, int((~self.correct).sum()))]]

    def roc(self) -> Curve:
        """Return false positive rate and true positive rate, from (0, 0) to (1, 1); needs both labels."""
        from torchmetrics.functional.classification import binary_roc

        false_positives, true_positives, _ = binary_roc(self.probabilities, self.labels)
        return false_positives.double().numpy(), true_positives.double().numpy()

    def precision_recall(self) -> Curve:
        """Return recall, growing, and precision; needs both labels."""
        from torchmetrics.functional.classification import binary_precision_recall_curve

        precision, recall, _ = binary_precision_recall_curve(self.probabilities, self.labels)
        return recall.flip(0).double().numpy(), precision.flip(0).double().numpy()

    def average_precision(self) -> float:
        """Return the mean precision over the growing recall; needs both labels."""
        from torchmetrics.functional.classification import binary_average_precision

        return float(binary_average_precision(self.probabilities, self.labels))

    def by_length(self, bins: int = 8) -> list[LengthBin]:
        """Return the accuracy by length, shortest first: up to `bins` groups of about as many reviews.

        Reviews of one length are in one group.
        """
        lengths, correct = self.lengths.numpy(), self.correct.numpy()
        bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
        groups = np.searchsorted(bounds, lengths)
        return [_length_bin(lengths[groups == group], correct[groups == group]) for group in np.unique(groups)]


def predict_split(network: TextClassifier, split: Split, data: DataConfig, *, batch_size: int) -> SplitPredictions:
    """Run the network over a whole split, once, on a GPU if there is one.

    Args:
        network: In evaluation mode.
        split: The reviews.
        data: Says how much of a review is read.
        batch_size: Reviews at a time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    batches = BatchLoader(split, batch_size=batch_size, max_length=data.max_length, truncate=data.truncate)
    indices, logits = [], []
    with torch.inference_mode():
        for batch in batches:
            indices.append(batch["indices"])
            logits.append(network(batch["token_ids"].to(device), batch["lengths"].to(device)).float().cpu())
    return SplitPredictions.of_rows(split, torch.cat(indices), torch.cat(logits))


def _length_bin(lengths: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_]) -> LengthBin:
    accuracy, reviews = float(correct.mean()), len(correct)
    low, high = wilson_interval(accuracy, reviews)
    return LengthBin(
        shortest=int(lengths.min()), longest=int(lengths.max()), reviews=reviews, accuracy=accuracy, low=low, high=high
    )


def wilson_interval(share: float, count: int, width: float = CONFIDENCE_95) -> tuple[float, float]:
    """Return the interval of a binomial share of `count`, within 0 and 1 and with the share in it (Wilson 1927)."""
    spread = width**2 / count
    center = (share + spread / 2) / (1 + spread)
    half = width / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # At 0 and 1 one end is the share itself, which rounding may miss.
    return min(share, max(0.0, center - half)), max(share, min(1.0, center + half))


def thinned(curve: Curve, points: int = 500) -> Curve:
    """Return at most `points` of a curve's points, both ends among them."""
    x, y = curve
    kept = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return x[kept], y[kept]
