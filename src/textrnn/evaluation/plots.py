"""Pictures of a split's predictions: confusion matrix, ROC curves, precision, accuracy by length; calibration."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textrnn.base.intervals import wilson_interval
from textrnn.evaluation.figures import LengthBin, most_confused
from textrnn.evaluation.metrics import LabelSetPredictions, SplitPredictions
from textrnn.tracking.plots import BLUE, GRAY, SERIES, class_label, drawable, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HINT: dict[str, Any] = {"color": GRAY, "linestyle": "--", "linewidth": 1}
"""Line style of chance level."""
FEW = 8
"""Classes up to which the confusion matrix is one of four equal panels; with more it has half of a larger picture."""
COUNTED = 4
"""Classes up to which the confusion matrix has counts; with more it has percentages alone."""
MATRIX = 30
"""Classes up to which the confusion matrix has all of them; with more it has the most confused ones."""
CURVES = 10
"""Classes up to which each has its ROC curve; with more there is their mean."""


def plot_evaluation(predictions: SplitPredictions, out: Path, *, title: str, max_length: int) -> None:
    """Draw four panels and write the PNG `out` atomically.

    The third panel is precision and recall of two classes, and the calibration of more. The curves need reviews of two
    labels; without, their panels say so. With several labels a review the first
    panel is F1 by class. The model reads up to
    `max_length` tokens of a review.
    """
    figure, (matrix, roc, third, lengths) = _panels(len(predictions.classes))
    figure.suptitle(drawable(title), parse_math=False)  # a run's name, in which a $ begins no formula
    if isinstance(predictions, LabelSetPredictions):
        _f1_by_class(matrix, predictions)
    else:
        _confusion_matrix(matrix, predictions)
    cut = float((predictions.lengths > max_length).float().mean())
    _lengths(lengths, predictions.by_length(), max_length, cut)
    of_two = len(predictions.classes) == 2 and not isinstance(predictions, LabelSetPredictions)
    if predictions.curve_classes:
        (_roc if of_two else _rocs)(roc, predictions)
    else:
        _empty(roc, "ROC")
    if not of_two:
        _calibration(third, predictions)
    elif predictions.curve_classes:
        _precision_recall(third, predictions)
    else:
        _empty(third, "precision and recall")
    save_figure(figure, out)


def plot_calibration(predictions: SplitPredictions, out: Path, *, title: str) -> None:
    """Draw accuracy by probability, of the model's own and, with a temperature, of the scaled ones; write a PNG."""
    temperature = predictions.temperature
    figure = new_figure(5.5 if temperature is None else 10.5, 5)
    figure.suptitle(drawable(title), parse_math=False)
    axes = figure.subplots(1, 1 if temperature is None else 2, squeeze=False)[0]
    _calibration(axes[0], predictions)
    if temperature is not None:
        _calibration(axes[1], predictions.calibrated(), f"temperature {temperature:.3g}, expected error")
    save_figure(figure, out)


def _panels(classes: int) -> "tuple[Figure, list[Axes]]":
    """Return the figure and its panels: matrix, ROC, the third and lengths."""
    if classes <= FEW:
        figure = new_figure(10.5, 9)
        return figure, list(figure.subplots(2, 2).flat)
    figure = new_figure(17, 12)
    panels = figure.subplot_mosaic([["matrix", name] for name in ("roc", "third", "lengths")], width_ratios=[2.2, 1])
    return figure, [panels[name] for name in ("matrix", "roc", "third", "lengths")]


def _empty(axes: "Axes", name: str) -> None:
    axes.set_title(name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "all reviews have the same label", transform=axes.transAxes, ha="center", va="center")


def _confusion_matrix(axes: "Axes", predictions: SplitPredictions) -> None:
    """The color is the share of the true class, so that classes of different sizes compare."""
    counts = np.asarray(predictions.confusion_matrix())
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = most_confused(counts, MATRIX)
    names = [class_label(predictions.classes[number], number, 18) for number in shown]
    axes.imshow(
        shares[np.ix_(shown, shown)], cmap="Blues", vmin=0, vmax=1, aspect="equal" if len(shown) <= FEW else "auto"
    )
    few = len(shown) <= COUNTED
    across: dict[str, Any] = {"rotation": 90 if len(shown) > FEW else 45, "rotation_mode": "anchor", "ha": "right"}
    upwards: dict[str, Any] = {"rotation": 90}
    axes.set_xticks(range(len(shown)), names, parse_math=False, **({} if few else across))
    axes.set_yticks(range(len(shown)), names, parse_math=False, va="center", **(upwards if few else {}))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    title = f"accuracy {counts.trace() / max(counts.sum(), 1):.4f}"
    if len(shown) < len(counts):
        title += f"; the {len(shown)} of {len(counts):,} classes with the most mistakes"
    axes.set_title(title if few else f"{title}\n% of the true class")
    for row, true in enumerate(shown):
        for column, predicted in enumerate(shown):
            share = shares[true, predicted]
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
            if few:
                text = f"{counts[true, predicted]:,}\n{share:.1%}"
            axes.text(
                column,
                row,
                f"{text} of {names[row]}" if len(shown) == 2 else text,
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
                fontsize=None if few else 8,
                parse_math=False,
            )


def _f1_by_class(axes: "Axes", predictions: LabelSetPredictions) -> None:
    """F1 of each class, or of the lowest of many, the most frequent class on top."""
    figures = predictions.by_class()
    shown = sorted(sorted(figures, key=lambda of: of.f1)[:MATRIX], key=lambda of: -of.reviews)
    axes.barh(range(len(shown)), [of.f1 for of in shown], color=BLUE)
    names = [f"{class_label(of.name, predictions.classes.index(of.name), 18)} ({of.reviews:,})" for of in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (and reviews with the label)")
    title = f"accuracy {predictions.metrics()['accuracy']:.4f} (all labels of a review)"
    if len(shown) < len(figures):
        title += f"\nthe {len(shown)} of {len(figures):,} classes that are lowest in F1"
    axes.set_title(title)


def _roc(axes: "Axes", predictions: SplitPredictions) -> None:
    axes.plot(*predictions.rocs()[1], color=BLUE)
    axes.plot([0, 1], [0, 1], **HINT)
    _unit_square(axes, "ROC, area", predictions.metrics()["auroc"], "false positive rate", "true positive rate")


def _rocs(axes: "Axes", predictions: SplitPredictions) -> None:
    """Each class against the rest, or the mean of many."""
    areas = predictions.areas()
    if len(areas) > CURVES:
        axes.plot(*predictions.mean_roc(), color=BLUE)
        name = f"ROC, mean of {len(areas)} classes, area"
    else:
        for place, (number, curve) in enumerate(predictions.rocs().items()):
            label = f"{class_label(predictions.classes[number], number, 18)}: {areas[number]:.4f}"
            style = "-" if place < len(SERIES) else "--"
            axes.plot(*curve, color=SERIES[place % len(SERIES)][0], linestyle=style, label=label)
        for text in axes.legend(loc="lower right", fontsize=8).get_texts():
            text.set_parse_math(False)
        name = "ROC against the rest, mean area"
    axes.plot([0, 1], [0, 1], **HINT)
    _unit_square(axes, name, predictions.metrics()["auroc"], "false positive rate", "true positive rate")


def _calibration(axes: "Axes", predictions: SplitPredictions, name: str = "calibration, expected error") -> None:
    """Accuracy by the probability of the predicted label, with the share of the reviews as bars."""
    bins = predictions.by_confidence()
    confidences, accuracies = [b.confidence for b in bins], [b.accuracy for b in bins]
    total = sum(b.reviews for b in bins)  # with several labels a review, answers: one for each class
    axes.bar(confidences, [b.reviews / total for b in bins], width=0.04, color=GRAY, alpha=0.4)
    ends = [wilson_interval(b.accuracy, b.reviews) for b in bins]
    errors = [[b.accuracy - low for b, (low, _) in zip(bins, ends, strict=True)]]
    errors += [[high - b.accuracy for b, (_, high) in zip(bins, ends, strict=True)]]
    axes.errorbar(confidences, accuracies, yerr=errors, fmt="o", capsize=3, color=BLUE)
    axes.plot([0, 1], [0, 1], **HINT)
    labels = "probability of the predicted label", "accuracy; bars: share of the reviews"
    _unit_square(axes, name, predictions.calibration_error(), *labels)


def _precision_recall(axes: "Axes", predictions: SplitPredictions) -> None:
    # A precision holds from its recall back to the one before.
    axes.step(*predictions.precision_recall(), where="pre", color=BLUE)
    axes.axhline(float(predictions.labels.float().mean()), **HINT)
    _unit_square(
        axes, "precision and recall, average precision", predictions.average_precision(), "recall", "precision"
    )


def _unit_square(axes: "Axes", name: str, value: float, x: str, y: str) -> None:
    axes.set_title(f"{name} {value:.4f}")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(alpha=0.3)


def _lengths(axes: "Axes", bins: list[LengthBin], max_length: int, cut: float) -> None:
    """A point a group with its interval; groups stand side by side, as they hold about as many reviews.

    `cut` is the share of the reviews that are longer than `max_length`.
    """
    places = range(len(bins))
    accuracies = [group.accuracy for group in bins]
    errors = [[b.accuracy - b.low for b in bins], [b.high - b.accuracy for b in bins]]
    axes.errorbar(places, accuracies, yerr=errors, fmt="o", capsize=3, color=BLUE)
    labels = [f"{_span(group)}\n({group.reviews:,})" for group in bins]
    axes.set_xticks(places, labels, fontsize=7)
    axes.set_xlim(-0.6, len(bins) - 0.4)
    axes.set_xlabel(f"tokens of a review (and number of reviews){_cut_note(bins, max_length, cut)}")
    axes.set_ylabel("accuracy, with 95 % interval")
    axes.set_title("accuracy by length")
    axes.grid(alpha=0.3, axis="y")


def _cut_note(bins: list[LengthBin], max_length: int, cut: float) -> str:
    """Return the share of the reviews that are cut, and their groups, which may have others too."""
    if cut == 0:
        return ""
    count = sum(group.longest > max_length for group in bins)
    where = "all groups" if count == len(bins) else "the last group" if count == 1 else f"the last {count} groups"
    return (
        f"\n{cut:.1%} of the reviews, in {where}, have more\nthan {max_length:,} tokens and are cut to {max_length:,}"
    )


def _span(group: LengthBin) -> str:
    return f"{group.shortest}" if group.shortest == group.longest else f"{group.shortest}–{group.longest}"
