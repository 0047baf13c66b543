"""Predictions of a split and their metrics, curves, accuracy by length and mistakes.

torchmetrics takes as long to import as everything else here, so only the functions that use it import it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from textrnn.base.intervals import wilson_interval
from textrnn.data.review_file import Split
from textrnn.evaluation.figures import (
    ClassFigures,
    ConfidenceBin,
    Curve,
    LengthBin,
    confidence_bins,
    length_bins,
    mean_curve,
)
from textrnn.model.network import class_probabilities, predicted_classes

CONFIDENCE_BINS = 15
"""Bins of equal width of the calibration error (Guo et al. 2017)."""


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
    temperature: float | None = None
    """What `calibrated` divides the logits by, fitted on validation; None: no temperature is known."""

    @staticmethod
    def of_rows(split: Split, indices: Tensor, logits: Tensor, classes: tuple[str, ...]) -> "SplitPredictions":
        """Join the logits of the rows `indices`, (reviews,), with the rows' labels and lengths."""
        rows = indices.numpy()
        labels, lengths = (torch.from_numpy(column[rows]).long() for column in (split.labels, split.lengths))
        return predictions_of(logits=logits, labels=labels, lengths=lengths, indices=indices, classes=classes)

    def __len__(self) -> int:
        return len(self.logits)

    def calibrated(self) -> Self:
        """Return the predictions with logits in float64, divided by the temperature if there is one."""
        return replace(self, logits=self.logits.double() / (self.temperature or 1.0), temperature=None)

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

    def true_names(self, place: int) -> list[str]:
        """Return the names of the labels of the review at a place."""
        return [self.classes[int(self.labels[place])]]

    def predicted_names(self, place: int) -> list[str]:
        """Return the names of the predicted labels of the review at a place."""
        return [self.classes[int(self.predicted[place])]]

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
        metrics = self._own_metrics()
        if areas := self.areas():
            metrics["auroc"] = torch.stack(list(areas.values())).mean()
        if self.has_diverged:
            return dict.fromkeys(metrics, math.nan)
        return {name: value.item() for name, value in metrics.items()}

    def _own_metrics(self) -> dict[str, Tensor]:
        return self._metrics_of_two() if len(self.classes) == 2 else self._metrics_of_more()

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
        return confidence_bins(self.confidences.numpy(), self.correct.numpy(), CONFIDENCE_BINS)

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
        return mean_curve(list(self.rocs().values()), points)

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
        return length_bins(self.lengths.numpy(), self.correct.numpy(), bins)


@dataclass(kw_only=True, slots=True)
class LabelSetPredictions(SplitPredictions):
    """Predictions with several labels a review: each class is a question of its own.

    `logits` and `labels` are (reviews, classes); a label is 1 or 0, and predicted where its probability is above 0.5.
    A review is correct if all its labels are. `f1` is the mean over the classes that the split has or that are
    predicted; `auroc` is the mean over those that some reviews have and some lack.
    """

    @property
    def probabilities(self) -> Tensor:
        """Probability of each class, (reviews, classes) float64; NaN where a logit is NaN."""
        return class_probabilities(self.logits, many_labels=True)

    @property
    def predicted(self) -> Tensor:
        """The predicted labels, (reviews, classes) int64."""
        return (self.logits > 0).long()

    @property
    def confidences(self) -> Tensor:
        """Probability of each predicted set of labels, (reviews,) float64: the product over the classes."""
        return self._certainties().prod(dim=1)

    def _certainties(self) -> Tensor:
        """Probability of the answer to each class's question, (reviews, classes)."""
        return torch.where(self.logits > 0, self.probabilities, 1 - self.probabilities)

    def true_names(self, place: int) -> list[str]:
        """Return the names of the labels of the review at a place."""
        return self._names(self.labels[place])

    def predicted_names(self, place: int) -> list[str]:
        """Return the names of the predicted labels of the review at a place."""
        return self._names(self.predicted[place])

    def _names(self, labels: Tensor) -> list[str]:
        return [name for name, has in zip(self.classes, labels.tolist(), strict=True) if has]

    @property
    def correct(self) -> Tensor:
        """Whether all predicted labels are those of the review, (reviews,) bool."""
        return (self.predicted == self.labels).all(dim=1)

    @property
    def curve_classes(self) -> list[int]:
        """The classes that have a ROC curve: those that some reviews have and some lack."""
        counts = self.labels.sum(dim=0).tolist()
        return [number for number, count in enumerate(counts) if 0 < count < len(self)]

    def _own_metrics(self) -> dict[str, Tensor]:
        hits, predicted, true = self._counts()
        counted = predicted + true > 0
        f1 = (2 * hits / (predicted + true))[counted]
        return {
            "loss": binary_cross_entropy_with_logits(self.logits, self.labels.to(self.logits.dtype)),
            "accuracy": self.correct.float().mean(),
            "f1": f1.mean() if len(f1) else torch.tensor(0.0),
        }

    def f1_micro(self) -> float:
        """Return F1 of all classes' answers together; NaN if the model has diverged."""
        hits, predicted, true = (float(counts.sum()) for counts in self._counts())
        return math.nan if self.has_diverged else 2 * hits / max(predicted + true, 1)

    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Reviews that have a class and are predicted to, that are predicted to and that have it, each (classes,)."""
        predicted = self.predicted
        return (predicted * self.labels).sum(dim=0), predicted.sum(dim=0), self.labels.sum(dim=0)

    def _against_the_rest(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        probabilities = self.probabilities
        for number in self.curve_classes:
            yield number, probabilities[:, number], self.labels[:, number]

    def by_class(self) -> list[ClassFigures]:
        """Return the figures of each class that the split has."""
        figures = []
        for name, hits, predicted, true in zip(self.classes, *(of.tolist() for of in self._counts()), strict=True):
            if true > 0:
                recall = hits / true
                low, high = wilson_interval(recall, true)
                precision, f1 = hits / max(predicted, 1), 2 * hits / (predicted + true)
                figures.append(
                    ClassFigures(
                        name=name, reviews=true, accuracy=recall, low=low, high=high, precision=precision, f1=f1
                    )
                )
        return figures

    def calibration_error(self) -> float:
        """Return the expected calibration error of all classes' answers, in bins (Guo et al. 2017)."""
        if self.has_diverged:
            return math.nan
        bins = self.by_confidence()
        answers = self.labels.numel()
        return sum(of.reviews / answers * abs(of.accuracy - of.confidence) for of in bins)

    def by_confidence(self) -> list[ConfidenceBin]:
        """Return the accuracy of all classes' answers by their probability; `reviews` counts answers."""
        return confidence_bins(
            self._certainties().flatten().numpy(), (self.predicted == self.labels).flatten().numpy(), CONFIDENCE_BINS
        )

    def _log_odds(self) -> Tensor:
        """Log-probability of the predicted set, (reviews,), which has the order of its log-odds."""
        return torch.nn.functional.logsigmoid(self.logits.abs()).sum(dim=1)


def predictions_of(
    *, logits: Tensor, labels: Tensor, lengths: Tensor, indices: Tensor, classes: tuple[str, ...]
) -> SplitPredictions:
    """Return predictions with one label a review, or with several where `labels` is (reviews, classes)."""
    kind = LabelSetPredictions if labels.ndim == 2 else SplitPredictions
    return kind(logits=logits, labels=labels, lengths=lengths, indices=indices, classes=classes)
