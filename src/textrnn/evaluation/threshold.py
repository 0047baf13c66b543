"""The probability above which a review gets a label, chosen on validation.

Scores and labels are those of questions with two answers: whether a review is of class 1 of two or, with several labels
a review, whether it has a label, for all labels together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textrnn.base.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from textrnn.evaluation.metrics import SplitPredictions

DEFAULT = 0.5

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a threshold is chosen by."""

    kind: str
    """`f1`: the largest F1; `precision`: this precision, with the largest recall; `fixed`: this threshold."""
    value: float = 0.0

    def __str__(self) -> str:
        return {"f1": "f1", "precision": f"precision={self.value:g}", "fixed": "given"}[self.kind]


def read_rule(typed: str) -> Rule:
    """Return the rule of `f1`, `precision=P` or a number.

    Raises:
        InputError: it is none of these.
    """
    if typed == "f1":
        return Rule("f1")
    name, equals, number = typed.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    inside = 0 < value < 1 or (name == "precision" and value == 1)
    if name + equals not in ("", "precision=") or not inside:
        raise InputError(f"--threshold {typed}: type f1, precision=0.95 or a number between 0 and 1.")
    return Rule("precision" if name else "fixed", value)


def check_classes(classes: int, *, many_labels: bool) -> None:
    """Check that labels can have a threshold.

    Raises:
        InputError: there are more than two classes, of which a text has one.
    """
    if classes > 2 and not many_labels:
        raise InputError(
            f"a threshold is for two classes or several labels a text; of the {classes} classes of this run a text has "
            "the most probable one, so leave --threshold out."
        )


def choose_threshold(rule: Rule, scores: Scores, labels: Labels) -> float:
    """Return the threshold that a rule gives: a short number between two scores.

    Args:
        rule: The rule.
        scores: (questions,) probabilities; a question is answered by yes if its own is above the threshold.
        labels: (questions,), 1 for yes, 0 for no.

    Raises:
        InputError: no threshold has the precision, or no label is 1.
    """
    if rule.kind == "fixed":
        return rule.value
    if not labels.any():
        raise InputError("--threshold: no validation review has the label, so none can be chosen; type a number.")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores are on one side
    hits, found = labels[order].cumsum()[ends], ends + 1
    precisions, f1s = hits / found, 2 * hits / (found + labels.sum())
    if rule.kind == "f1":
        best = int(f1s.argmax())
    else:
        if precisions.max() < rule.value:
            raise InputError(
                f"--threshold {rule}: the highest precision on validation is {precisions.max():.4f}; ask for less."
            )
        reaching = np.flatnonzero(precisions >= rule.value)
        best = int(reaching[hits[reaching].argmax()])  # of equal recall the first, which is the most precise
    above = float(ranked[ends[best]])
    below = float(ranked[ends[best] + 1]) if best + 1 < len(ends) else 0.0
    return _short(below, above)


def _short(below: float, above: float) -> float:
    """Return the number with the fewest digits in the middle of two: at least `below`, and less than `above`."""
    for digits in range(2, 17):
        number = round((below + above) / 2, digits)
        if below <= number < above:
            return number
    return below


def figures_at(threshold: float, scores: Scores, labels: Labels) -> dict[str, float]:
    """Return precision, recall and F1 at a threshold, 0 where they have no value."""
    answers = scores > threshold
    hits, found, true = int((answers & (labels == 1)).sum()), int(answers.sum()), int(labels.sum())
    return {"precision": hits / max(found, 1), "recall": hits / max(true, 1), "f1": 2 * hits / max(found + true, 1)}


def questions(predictions: "SplitPredictions") -> tuple[Scores, Labels]:
    """Return the scores and labels of all questions, with calibrated probabilities, as `predict.py` has them."""
    probabilities, labels = predictions.calibrated().probabilities.numpy(), predictions.labels.numpy()
    return (probabilities.ravel(), labels.ravel()) if labels.ndim == 2 else (probabilities[:, 1], labels)


def measured_threshold(
    rule: Rule, validation: "SplitPredictions", split: str, predictions: "SplitPredictions"
) -> dict[str, Any]:
    """Choose a threshold on validation; return it, and the figures of both splits at it and at 0.5.

    Raises:
        InputError: no threshold has the precision.
    """
    threshold = choose_threshold(rule, *questions(validation))
    splits = {"validation": validation, split: predictions}
    return {
        "threshold": threshold,
        "rule": str(rule),
        "temperature": predictions.temperature,
        "figures": [
            {"split": name, "threshold": at, **figures_at(at, *questions(of))}
            for name, of in splits.items()
            for at in dict.fromkeys((DEFAULT, threshold))
        ],
    }


def threshold_table(measured: dict[str, Any]) -> "Table":
    """Return the table of `measured_threshold`."""
    from rich.table import Table

    how = "as given" if measured["rule"] == "given" else f"chosen on validation by {measured['rule']}"
    table = Table(
        title=f"threshold {measured['threshold']}, {how}",
        title_justify="left",
        show_edge=False,
        min_width=60,
    )
    table.add_column("split")
    for column in ("threshold", "precision", "recall", "f1"):
        table.add_column(column, justify="right")
    for row in measured["figures"]:
        figures = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        table.add_row(row["split"], f"{row['threshold']:.6g}", *figures)
    return table
