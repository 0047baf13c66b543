"""W&B charts of a split's predictions, from our own metrics: the functions of `wandb.plot` would need scikit-learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrnn.config.schema import LABELS
from textrnn.evaluation.metrics import Curve, SplitPredictions, thinned
from textrnn.evaluation.report import MISTAKE_COLUMNS

if TYPE_CHECKING:
    from wandb.plot.custom_chart import CustomChart

CONFUSION_MATRIX, CURVE = "wandb/confusion_matrix/v1", "wandb/area-under-curve/v0"
"""Names of built-in charts on W&B's server."""


def evaluation_charts(
    predictions: SplitPredictions, *, prefix: str, picture: Path, mistakes: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    """Return what to log by key: charts, `evaluation.png` and, if there are mistakes, their table.

    Args:
        predictions: The predictions; without both labels there are no curves.
        prefix: Prefix of the split's metrics, "val" or "test".
        picture: Path of `evaluation.png`.
        mistakes: Rows for the table, with the reviews' texts.
    """
    import wandb

    counts = predictions.confusion_matrix()
    cells = [[LABELS[true], LABELS[predicted], counts[true][predicted]] for true in (0, 1) for predicted in (0, 1)]
    bins = [[f"{group.shortest}–{group.longest}", group.accuracy, group.reviews] for group in predictions.by_length()]
    columns = ["Actual", "Predicted", "nPredictions"]
    charts: dict[str, Any] = {
        "confusion_matrix": wandb.plot_table(
            CONFUSION_MATRIX, _table(columns, cells), {name: name for name in columns}, {"title": "confusion matrix"}
        ),
        "accuracy_by_length": wandb.plot.bar(
            _table(["tokens", "accuracy", "reviews"], bins), "tokens", "accuracy", title="accuracy by length"
        ),
        "evaluation": wandb.Image(str(picture)),
    }
    if predictions.both_labels:
        area, precision = predictions.metrics()["auroc"], predictions.average_precision()
        charts["roc"] = _curve(predictions.roc(), "false positive rate", "true positive rate", f"ROC, area {area:.4f}")
        charts["precision_recall"] = _curve(
            predictions.precision_recall(), "recall", "precision", f"average precision {precision:.4f}"
        )
    if mistakes:
        charts["mistakes"] = _table(MISTAKE_COLUMNS, mistakes)
    return {f"{prefix}/{name}": chart for name, chart in charts.items()}


def _curve(curve: Curve, x: str, y: str, title: str) -> "CustomChart":
    import wandb

    points = [[LABELS[1], float(across), float(up)] for across, up in zip(*thinned(curve), strict=True)]
    return wandb.plot_table(
        CURVE,
        _table(["class", x, y], points),
        {"x": x, "y": y, "class": "class"},
        {"title": title, "x-axis-title": x, "y-axis-title": y},
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])
