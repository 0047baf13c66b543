"""What an evaluation prints: metrics, figures of each class, and confident mistakes."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from textrnn.base.console import print_table
from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import LabelSetPredictions, SplitPredictions

CLASSES, FEWEST = 20, 10
"""Classes up to which the table has all of them; of more it has the worst ten."""


def show(name: str, predictions: SplitPredictions, split: Split, title: str) -> None:
    """Print the metrics of the split `name`, of each class if there are more than two, and three confident mistakes."""
    print(f"{title} on {name} ({len(split):,} reviews)\n")
    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    for key, value in predictions.metrics().items():
        table.add_row(f"{name}/{key}", f"{value:.4f}")
    if isinstance(predictions, LabelSetPredictions):
        table.add_row(f"{name}/f1_micro", f"{predictions.f1_micro():.4f}")
    print_table(table)
    if len(predictions.classes) > 2 or isinstance(predictions, LabelSetPredictions):
        print_table(_by_class(predictions))
    worst = Table(title="most confident mistakes", title_justify="left", show_edge=False)
    for column in ("label", "predicted", "probability"):
        worst.add_column(column, justify="right" if column == "probability" else "left", no_wrap=True)
    worst.add_column("end of the text")
    for place in predictions.mistakes(3):
        of_both = predictions.true_names(place), predictions.predicted_names(place)
        names = (_cell(", ".join(labels) or "none") for labels in of_both)
        words = split.text(int(predictions.indices[place])).split()
        excerpt = " ".join(["...", *words[-20:]] if len(words) > 20 else words)
        worst.add_row(*names, f"{predictions.confidences[place]:.4f}", Text(excerpt))
    if worst.row_count:
        print_table(worst)


def show_members(name: str, members: Mapping[str, SplitPredictions]) -> None:
    """Print the metrics of each member of an ensemble, and of the ensemble."""
    table = Table(show_edge=False)
    table.add_column("run")
    metrics = {member: predictions.metrics() for member, predictions in members.items()}
    for key in next(iter(metrics.values())):
        table.add_column(f"{name}/{key}", justify="right", no_wrap=True)
    for member, values in metrics.items():
        table.add_row(member, *(f"{value:.4f}" for value in values.values()))
    print_table(table)
    print()


def _by_class(predictions: SplitPredictions) -> Table:
    """Return the figures of each class, or of the ten that are lowest in F1 where there are many."""
    figures = predictions.by_class()
    table = Table(title_justify="left", show_edge=False)
    if len(figures) > CLASSES:
        table.title = f"the {FEWEST} of {len(figures):,} classes that are lowest in F1"
        figures = sorted(figures, key=lambda of: of.f1)[:FEWEST]
    table.add_column("class", no_wrap=True)
    for column in ("reviews", "accuracy", "precision", "f1"):
        table.add_column(column, justify="right", no_wrap=True)
    for of in figures:
        table.add_row(_cell(of.name), f"{of.reviews:,}", f"{of.accuracy:.4f}", f"{of.precision:.4f}", f"{of.f1:.4f}")
    return table


def _cell(name: str) -> Text:
    """Return a class's name as plain text of at most 24 characters, without a line break."""
    shown = " ".join(name.split())
    return Text(shown if len(shown) <= 24 else f"{shown[:23]}…")
