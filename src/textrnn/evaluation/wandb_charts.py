"""W&B charts of a split's predictions, from our own metrics: the functions of `wandb.plot` would need scikit-learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textrnn.evaluation.calibration import calibration_line
from textrnn.evaluation.figures import Curve, most_confused, thinned
from textrnn.evaluation.metrics import LabelSetPredictions, SplitPredictions
from textrnn.evaluation.plots import CURVES, MATRIX
from textrnn.evaluation.report import MistakeTable

if TYPE_CHECKING:
    from wandb.plot.custom_chart import CustomChart

CONFUSION_MATRIX, CURVE = "wandb/confusion_matrix/v1", "wandb/area-under-curve/v0"
"""Names of built-in charts on W&B's server."""


def evaluation_charts(
    predictions: SplitPredictions, *, prefix: str, picture: Path, mistakes: MistakeTable
) -> dict[str, Any]:
    """Return what to log by key: charts, both pictures and, if there are mistakes, their table.

    Args:
        predictions: The predictions; if all reviews have the same label, there are no curves.
        prefix: Prefix of the split's metrics, "val" or "test".
        picture: Path of `evaluation.png`, beside which `calibration.png` is.
        mistakes: The table of mistakes, with the reviews' texts.
    """
    import wandb

    names, many_labels = predictions.classes, isinstance(predictions, LabelSetPredictions)
    bins = [[f"{group.shortest}–{group.longest}", group.accuracy, group.reviews] for group in predictions.by_length()]
    charts: dict[str, Any] = {
        **({} if many_labels else {"confusion_matrix": _confusion_matrix(predictions)}),
        "accuracy_by_length": wandb.plot.bar(
            _table(["tokens", "accuracy", "reviews"], bins), "tokens", "accuracy", title="accuracy by length"
        ),
        "evaluation": wandb.Image(str(picture)),
    }
    calibration = picture.with_name("calibration.png")
    if calibration.is_file():  # an evaluation of an earlier version has none
        charts["calibration"] = wandb.Image(str(calibration), caption=calibration_line(predictions))
    if predictions.curve_classes:
        many = len(predictions.curve_classes) > CURVES
        rocs = {"mean": predictions.mean_roc()} if many else {names[c]: roc for c, roc in predictions.rocs().items()}
        title = f"ROC, area {predictions.metrics()['auroc']:.4f}"
        charts["roc"] = _curves(rocs, "false positive rate", "true positive rate", title)
    if many_labels or len(names) > 2:
        rows = [[figures.name, figures.accuracy, figures.f1, figures.reviews] for figures in predictions.by_class()]
        charts["accuracy_by_class"] = wandb.plot.bar(
            _table(["class", "accuracy", "f1", "reviews"], rows), "class", "accuracy", title="accuracy by class"
        )
    elif predictions.curve_classes:
        title = f"average precision {predictions.average_precision():.4f}"
        charts["precision_recall"] = _curves({names[1]: predictions.precision_recall()}, "recall", "precision", title)
    if mistakes.rows:
        charts["mistakes"] = _table(mistakes.columns, mistakes.rows)
    return {f"{prefix}/{name}": chart for name, chart in charts.items()}


def _confusion_matrix(predictions: SplitPredictions) -> "CustomChart":
    import wandb

    counts, names = predictions.confusion_matrix(), predictions.classes
    shown = most_confused(np.asarray(counts), MATRIX).tolist()
    cells = [[names[true], names[predicted], counts[true][predicted]] for true in shown for predicted in shown]
    columns = ["Actual", "Predicted", "nPredictions"]
    return wandb.plot_table(
        CONFUSION_MATRIX, _table(columns, cells), {name: name for name in columns}, {"title": "confusion matrix"}
    )


def _curves(curves: dict[str, Curve], x: str, y: str, title: str) -> "CustomChart":
    import wandb

    points = [
        [name, float(across), float(up)]
        for name, curve in curves.items()
        for across, up in zip(*thinned(curve), strict=True)
    ]
    return wandb.plot_table(
        CURVE,
        _table(["class", x, y], points),
        {"x": x, "y": y, "class": "class"},
        {"title": title, "x-axis-title": x, "y-axis-title": y},
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])
