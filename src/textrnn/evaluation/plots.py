"""One picture of a split's predictions: confusion matrix, ROC curve, precision and recall, accuracy by length."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textrnn.config.schema import LABELS
from textrnn.evaluation.metrics import LengthBin, SplitPredictions
from textrnn.tracking.plots import BLUE, GRAY, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HINT: dict[str, Any] = {"color": GRAY, "linestyle": "--", "linewidth": 1}
"""Line style of chance level."""


def plot_evaluation(predictions: SplitPredictions, out: Path, *, title: str, max_length: int) -> None:
    """Draw four panels and write the PNG `out` atomically.

    The curves need reviews of both labels; without both, their panels say so. The model reads up to `max_length` tokens
    of a review.
    """
    figure = new_figure(10.5, 9)
    figure.suptitle(title, parse_math=False)  # a run's name, in which a $ begins no formula
    matrix, roc, precision_recall, lengths = figure.subplots(2, 2).flat
    _confusion_matrix(matrix, predictions)
    cut = float((predictions.lengths > max_length).float().mean())
    _lengths(lengths, predictions.by_length(), max_length, cut)
    if predictions.both_labels:
        _roc(roc, predictions)
        _precision_recall(precision_recall, predictions)
    else:
        for axes, name in ((roc, "ROC"), (precision_recall, "precision and recall")):
            axes.set_title(name)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.text(0.5, 0.5, "all reviews have the same label", transform=axes.transAxes, ha="center", va="center")
    save_figure(figure, out)


def _confusion_matrix(axes: "Axes", predictions: SplitPredictions) -> None:
    """The color is the share of the true class, so that classes of different sizes compare."""
    counts = np.asarray(predictions.confusion_matrix())
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = range(len(LABELS))
    axes.set_xticks(positions, LABELS)
    axes.set_yticks(positions, LABELS, rotation=90, va="center")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {counts.trace() / max(counts.sum(), 1):.4f}")
    for true in positions:
        for predicted in positions:
            share = shares[true, predicted]
            axes.text(
                predicted,
                true,
                f"{counts[true, predicted]:,}\n{share:.1%} of {LABELS[true]}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )


def _roc(axes: "Axes", predictions: SplitPredictions) -> None:
    axes.plot(*predictions.roc(), color=BLUE)
    axes.plot([0, 1], [0, 1], **HINT)
    _unit_square(axes, "ROC, area", predictions.metrics()["auroc"], "false positive rate", "true positive rate")


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
