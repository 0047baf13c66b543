"""Predictions of a split and their metrics, curves, accuracy by length and mistakes.

torchmetrics takes as long to import as everything else here, so only the functions that use it import it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from textrnn.config.schema import DataConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from textrnn.model.network import TextClassifier, class_probabilities, predicted_classes

CONFIDENCE_95 = 1.959964
"""Half width, in standard deviations, of the interval that holds 95 % of a normal distribution."""

CONFIDENCE_BINS = 15
"""Bins of equal width of the calibration error (Guo et al. 2017)."""

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
class ClassFigures:
    """The reviews of one class."""

    name: str
    reviews: int
    accuracy: float
    """Share that is predicted to be of the class: its recall."""
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: float
    """Upper end."""
    precision: float
    """Share of the class among the reviews that are predicted to be of it; 0 without any."""
    f1: float


@dataclass(kw_only=True, slots=True)
class ConfidenceBin:
    """The reviews whose prediction has a similar probability."""

    confidence: float
    """Mean probability of the predicted labels."""
    reviews: int
    accuracy: float


@dataclass(kw_only=True, slots=True)
class SplitPredictions:
    """Predictions of at least one review of a split, on the CPU, in the order of reading."""

    logits: Tensor
    """(reviews,), those of class 1 of two, or (reviews, classes); float32, or float64 for a run in `64-true`."""
    labels: Tensor
    """(reviews,) int64, class ids."""
    lengths: Tensor
    """(reviews,) int64, tokens of each whole review."""
    indices: Tensor
    """(reviews,) int64, each review's row in its split."""
    classes: tuple[str, ...]
    """Names of the classes, by id."""

    @classmethod
    def of_rows(cls, split: Split, indices: Tensor, logits: Tensor, classes: tuple[str, ...]) -> Self:
        """Join the logits of the rows `indices`, (reviews,), with the rows' labels and lengths."""
        rows = indices.numpy()
        labels, lengths = (torch.from_numpy(column[rows]).long() for column in (split.labels, split.lengths))
        return cls(logits=logits, labels=labels, lengths=lengths, indices=indices, classes=classes)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probabilities(self) -> Tensor:
        """Probability of each class, (reviews, classes) float64; NaN where a logit is NaN."""
        return class_probabilities(self.logits)

    @property
    def predicted(self) -> Tensor:
        """The predicted labels, (reviews,) int64."""
        # Of two classes by torchmetrics' rule: in float32 a logit of 1e-9 is a probability of 0.5, and not above it.
        return (self.logits.sigmoid() > 0.5).long() if self.logits.ndim == 1 else predicted_classes(self.logits)

    @property
    def confidences(self) -> Tensor:
        """Probability of each predicted label, (reviews,) float64."""
        return self.probabilities.gather(1, self.predicted.unsqueeze(1)).squeeze(1)

    @property
    def correct(self) -> Tensor:
        """Whether each prediction equals its label, (reviews,) bool."""
        return self.predicted == self.labels

    @property
    def curve_classes(self) -> list[int]:
        """The classes that have a ROC curve: class 1 of two; of more, each that the split has.

        Empty if all reviews have the same label.
        """
        found: list[int] = self.labels.bincount().nonzero().flatten().tolist()
        if len(found) == 1:
            return []
        return [1] if len(self.classes) == 2 else found

    @property
    def has_diverged(self) -> bool:
        """Whether a logit is NaN; all metrics are NaN then."""
        return bool(self.logits.isnan().any())

    def metrics(self) -> dict[str, float]:
        """Return loss (nats a review), accuracy, F1 and, unless all labels are the same, the area under the ROC curve.

        F1 and area are those of class 1 of two. Of more classes they are means over classes: F1 over those that the
        split has or that are predicted, the area, of each class against the rest, over those that the split has.

        All are NaN if the model has diverged: torchmetrics would count a NaN as a prediction.
        """
        metrics = self._metrics_of_two() if len(self.classes) == 2 else self._metrics_of_more()
        if areas := self.areas():
            metrics["auroc"] = torch.stack(list(areas.values())).mean()
        if self.has_diverged:
            return dict.fromkeys(metrics, math.nan)
        return {name: value.item() for name, value in metrics.items()}

    def _metrics_of_two(self) -> dict[str, Tensor]:
        from torchmetrics.functional.classification import binary_accuracy, binary_f1_score

        return {
            "loss": binary_cross_entropy_with_logits(self.logits, self.labels.to(self.logits.dtype)),
            "accuracy": binary_accuracy(self.predicted, self.labels, validate_args=False),
            "f1": binary_f1_score(self.predicted, self.labels, validate_args=False),
        }

    def _metrics_of_more(self) -> dict[str, Tensor]:
        from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

        number = len(self.classes)
        return {
            "loss": cross_entropy(self.logits, self.labels),
            "accuracy": multiclass_accuracy(
                self.predicted, self.labels, num_classes=number, average="micro", validate_args=False
            ),
            "f1": multiclass_f1_score(
                self.predicted, self.labels, num_classes=number, average="macro", validate_args=False
            ),
        }

    def areas(self) -> dict[int, Tensor]:
        """Return the area under the ROC curve of each of `curve_classes` against the rest.

        `multiclass_auroc` would count a class that the split lacks as 0.
        """
        from torchmetrics.functional.classification import binary_auroc

        rest = self._against_the_rest()
        return {number: binary_auroc(scores, labels, validate_args=False) for number, scores, labels in rest}

    def _against_the_rest(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each of `curve_classes` with its probabilities and with 1 for its reviews, 0 for the others.

        torchmetrics would take logits that all happen to lie in [0, 1] for probabilities.
        """
        probabilities = self.probabilities
        for number in self.curve_classes:
            yield number, probabilities[:, number], (self.labels == number).long()

    def confusion_matrix(self) -> list[list[int]]:
        """Return counts, rows by label and columns by prediction, in the order of the classes."""
        number = len(self.classes)
        cells = torch.bincount(number * self.labels + self.predicted, minlength=number**2)
        counts: list[list[int]] = cells.reshape(number, number).tolist()
        return counts

    def by_class(self) -> list[ClassFigures]:
        """Return the figures of each class that the split has."""
        from torchmetrics.functional.classification import multiclass_f1_score, multiclass_precision, multiclass_recall

        recalls, precisions, f1s = (
            measure(self.predicted, self.labels, num_classes=len(self.classes), average=None, validate_args=False)
            for measure in (multiclass_recall, multiclass_precision, multiclass_f1_score)
        )
        figures = []
        for number, reviews in enumerate(self.labels.bincount(minlength=len(self.classes)).tolist()):
            if reviews > 0:
                accuracy = float(recalls[number])
                low, high = wilson_interval(accuracy, reviews)
                figures.append(
                    ClassFigures(
                        name=self.classes[number],
                        reviews=reviews,
                        accuracy=accuracy,
                        low=low,
                        high=high,
                        precision=float(precisions[number]),
                        f1=float(f1s[number]),
                    )
                )
        return figures

    def calibration_error(self) -> float:
        """Return the expected calibration error of the predicted labels' probabilities, in bins (Guo et al. 2017)."""
        from torchmetrics.functional.classification import multiclass_calibration_error

        if self.has_diverged:
            return math.nan
        error = multiclass_calibration_error(
            self.probabilities, self.labels, num_classes=len(self.classes), n_bins=CONFIDENCE_BINS, validate_args=False
        )
        return float(error)

    def by_confidence(self) -> list[ConfidenceBin]:
        """Return the accuracy by the predicted label's probability: the bins of `calibration_error` with reviews."""
        confidences, correct = self.confidences.numpy(), self.correct.numpy()
        bins = np.digitize(confidences, np.linspace(0, 1, CONFIDENCE_BINS + 1)[1:-1])
        return [
            ConfidenceBin(
                confidence=float(confidences[bins == number].mean()),
                reviews=int((bins == number).sum()),
                accuracy=float(correct[bins == number].mean()),
            )
            for number in np.unique(bins)
        ]

    def mistakes(self, most: int) -> list[int]:
        """Return the indices of up to `most` wrong predictions, the most confident first, ties by row."""
        by_row = self.indices.argsort()
        # Of log-odds, as probabilities near 1 are rounded to the same number.
        odds = self._log_odds().nan_to_num(nan=torch.finfo(self.logits.dtype).min)
        confidence = torch.where(self.correct, -torch.inf, odds)[by_row]
        order = by_row[torch.argsort(confidence, descending=True, stable=True)]
        return [int(place) for place in order[: min(most, int((~self.correct).sum()))]]

    def _log_odds(self) -> Tensor:
        """Log-odds of the predicted labels, (reviews,)."""
        if self.logits.ndim == 1:
            return self.logits.abs()
        top = self.predicted.unsqueeze(1)
        rest = self.logits.scatter(1, top, -torch.inf).logsumexp(dim=1)
        return self.logits.gather(1, top).squeeze(1) - rest

    def rocs(self) -> dict[int, Curve]:
        """Return false and true positive rate, from (0, 0) to (1, 1), of each of `curve_classes` against the rest."""
        from torchmetrics.functional.classification import binary_roc

        curves = {}
        for number, scores, labels in self._against_the_rest():
            false_positives, true_positives, _ = binary_roc(scores, labels, validate_args=False)
            curves[number] = false_positives.double().numpy(), true_positives.double().numpy()
        return curves

    def mean_roc(self, points: int = 501) -> Curve:
        """Return the mean of the true positive rates of all `curve_classes` at each false positive rate."""
        across = np.linspace(0, 1, points)
        up = np.mean([np.interp(across, *curve) for curve in self.rocs().values()], axis=0)
        return np.concatenate(([0.0], across)), np.concatenate(([0.0], up))

    def precision_recall(self) -> Curve:
        """Return recall, growing, and precision of class 1 of two; needs both labels."""
        from torchmetrics.functional.classification import binary_precision_recall_curve

        ((_, scores, labels),) = self._against_the_rest()
        precision, recall, _ = binary_precision_recall_curve(scores, labels, validate_args=False)
        return recall.flip(0).double().numpy(), precision.flip(0).double().numpy()

    def average_precision(self) -> float:
        """Return the mean precision over the growing recall, as a mean over `curve_classes`."""
        from torchmetrics.functional.classification import binary_average_precision

        rest = self._against_the_rest()
        found = [binary_average_precision(scores, labels, validate_args=False) for _, scores, labels in rest]
        return float(torch.stack(found).mean())

    def by_length(self, bins: int = 8) -> list[LengthBin]:
        """Return the accuracy by length, shortest first: up to `bins` groups of about as many reviews.

        Reviews of one length are in one group.
        """
        lengths, correct = self.lengths.numpy(), self.correct.numpy()
        bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
        groups = np.searchsorted(bounds, lengths)
        return [_length_bin(lengths[groups == group], correct[groups == group]) for group in np.unique(groups)]


def predict_split(
    network: TextClassifier, split: Split, data: DataConfig, *, classes: tuple[str, ...], batch_size: int
) -> SplitPredictions:
    """Run the network over a whole split, once, on a GPU if there is one.

    Args:
        network: In evaluation mode.
        split: The reviews.
        data: Says how much of a review is read.
        classes: Names of the classes, by id.
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
    return SplitPredictions.of_rows(split, torch.cat(indices), torch.cat(logits), classes)


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


def most_confused(counts: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return the ids, growing, of the `most` classes with the most mistakes, as label or prediction, in a matrix."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:most])


def thinned(curve: Curve, points: int = 500) -> Curve:
    """Return at most `points` of a curve's points, both ends among them."""
    x, y = curve
    kept = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return x[kept], y[kept]
