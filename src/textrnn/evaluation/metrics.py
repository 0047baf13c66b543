"""What predictions come to: metrics, curves, accuracy by length and mistakes of a split's reviews.

torchmetrics takes as long to import as all else here, so it is imported where numbers are asked for.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

CONFIDENCE_95 = 1.959964
"""Half the width, in standard deviations, of an interval that holds 95 % of a normal distribution."""

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""x and y of a curve's points, in order."""


@dataclass(kw_only=True, slots=True)
class LengthBin:
    """The reviews of similar length."""

    shortest: int
    """Tokens of the shortest review; of whole reviews, also where the model reads only a part."""
    longest: int
    """Tokens of the longest."""
    reviews: int
    accuracy: float
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: float
    """Upper end."""


@dataclass(kw_only=True, slots=True)
class Measured:
    """Predictions of reviews, at least one: each field (reviews,), on the CPU."""

    logits: Tensor
    """float32."""
    labels: Tensor
    """int64, 0 negative or 1 positive."""
    lengths: Tensor
    """int64, tokens of each whole review."""
    indices: Tensor
    """int64, each review's row in its split."""

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probabilities(self) -> Tensor:
        """That each review is positive; not a number where the logit is none."""
        return self.logits.sigmoid()

    @property
    def right(self) -> Tensor:
        """Whether each prediction is its label, (reviews,) bool."""
        return (self.probabilities > 0.5) == (self.labels == 1)

    @property
    def both_labels(self) -> bool:
        """Whether there are positive and negative reviews; without both there is no ROC curve."""
        return 0 < int(self.labels.sum()) < len(self)

    @property
    def has_diverged(self) -> bool:
        """Whether a logit is no number, so that what the predictions come to is none either."""
        return bool(self.logits.isnan().any())

    def metrics(self) -> dict[str, float]:
        """Loss (nats a review), accuracy, F1 of the positive class and, with both labels, area under the ROC curve.

        Each is NaN where the model has diverged: torchmetrics would count a NaN as some class.
        """
        from torchmetrics.functional.classification import binary_auroc, binary_f1_score

        metrics = {
            "loss": binary_cross_entropy_with_logits(self.logits, self.labels.float()).item(),
            "accuracy": self.right.float().mean().item(),
            "f1": binary_f1_score(self.probabilities, self.labels).item(),
        }
        metrics |= {"auroc": binary_auroc(self.probabilities, self.labels).item()} if self.both_labels else {}
        return dict.fromkeys(metrics, math.nan) if self.has_diverged else metrics

    def confusion_matrix(self) -> list[list[int]]:
        """Counts, rows by label and columns by prediction, negative first."""
        predicted = (self.probabilities > 0.5).long()
        counts: list[list[int]] = torch.bincount(2 * self.labels + predicted, minlength=4).reshape(2, 2).tolist()
        return counts

    def mistakes(self, most: int) -> list[int]:
        """Places of the wrong predictions, the most confident first."""
        confidence = torch.where(self.right, -torch.inf, self.logits.abs().nan_to_num(nan=0.0))
        order = torch.argsort(confidence, descending=True, stable=True)
        return [int(place) for place in order[: min(most, int((~self.right).sum()))]]

    def roc(self) -> Curve:
        """False positive rate and true positive rate, from (0, 0) to (1, 1); needs both labels."""
        from torchmetrics.functional.classification import binary_roc

        false_positives, true_positives, _ = binary_roc(self.probabilities, self.labels)
        return false_positives.double().numpy(), true_positives.double().numpy()

    def precision_recall(self) -> Curve:
        """Recall, growing, and precision; needs both labels."""
        from torchmetrics.functional.classification import binary_precision_recall_curve

        precision, recall, _ = binary_precision_recall_curve(self.probabilities, self.labels)
        return recall.flip(0).double().numpy(), precision.flip(0).double().numpy()

    def average_precision(self) -> float:
        """Mean precision over the growing recall; needs both labels."""
        from torchmetrics.functional.classification import binary_average_precision

        return float(binary_average_precision(self.probabilities, self.labels))

    def by_length(self, bins: int = 8) -> list[LengthBin]:
        """Accuracy of reviews of similar length: up to `bins` groups of about as many reviews, shortest first.

        Reviews of one length are in one group.
        """
        lengths, right = self.lengths.numpy(), self.right.numpy()
        bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
        groups = np.searchsorted(bounds, lengths)
        return [_length_bin(lengths[groups == group], right[groups == group]) for group in np.unique(groups)]


def _length_bin(lengths: npt.NDArray[np.int64], right: npt.NDArray[np.bool_]) -> LengthBin:
    accuracy, reviews = float(right.mean()), len(right)
    low, high = wilson_interval(accuracy, reviews)
    return LengthBin(
        shortest=int(lengths.min()), longest=int(lengths.max()), reviews=reviews, accuracy=accuracy, low=low, high=high
    )


def wilson_interval(share: float, count: int, width: float = CONFIDENCE_95) -> tuple[float, float]:
    """The interval of a binomial share of `count`, within 0 and 1 and with the share in it (Wilson 1927)."""
    spread = width**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = width / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # At 0 and 1 the exact end is the share itself, which rounding may miss.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def thinned(curve: Curve, points: int = 500) -> Curve:
    """A curve of at most so many of its points, the ends among them."""
    x, y = curve
    kept = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return x[kept], y[kept]
