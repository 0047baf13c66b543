"""Pictures in the run directory. Drawn without pyplot, which would keep global state and look for a display."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Before matplotlib is imported: it would make a folder of settings in the home; its cache of fonts is all it needs.
os.environ.setdefault(
    "MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib")
)

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from textrnn.base.files import replacing
from textrnn.tracking.metrics_csv import Row, read_metrics

COLOURS = {"train": "#4477aa", "validation": "#ee6677", "test": "#228833"}
"""Told apart by colour-blind readers too (Paul Tol's bright scheme)."""
BARS = 12
"""Operations in the picture of a profile; the others are one bar."""
PREFIXES = {"train": "train", "validation": "val"}


@dataclass(kw_only=True, slots=True)
class Operation:
    """The profiler's measurement of one operation."""

    name: str
    calls: int
    self_ms: float
    """Its own time in milliseconds, without the operations that it called."""
    total_ms: float
    """Its time with the operations that it called."""
    share: float
    """Its share of the own times of all operations, 0 to 1."""


def plot_curves(metrics_csv: Path, out: Path, *, best_step: int | None = None, tested: bool = True) -> None:
    """Draw loss and accuracy of training and validation by step, and write the PNG `out` atomically.

    `best_step` marks the step whose checkpoint was chosen. The last test is a line, unless the run has gone on since
    and not been `tested` again. A run without one of the metrics has an empty panel.
    """
    rows = read_metrics(metrics_csv)
    figure = new_figure(10, 4)
    loss, accuracy = figure.subplots(1, 2)
    draw_quantity(loss, rows, "loss", best_step, tested=tested)
    draw_quantity(accuracy, rows, "accuracy", best_step, tested=tested)
    save_figure(figure, out)


def plot_profile(operations: Sequence[Operation], out: Path, *, title: str) -> None:
    """Draw each operation's share of the time as a bar, the longest on top, and write the PNG `out` atomically.

    `operations` must be sorted, the longest first; from the thirteenth on they share a bar.
    """
    shown = [(operation.name, operation.share, operation.calls) for operation in operations[:BARS]]
    if rest := operations[BARS:]:
        shown.append((f"{len(rest)} others", sum(o.share for o in rest), sum(o.calls for o in rest)))
    figure = new_figure(9, 0.9 + 0.32 * len(shown))
    axes = figure.subplots()
    colours = [COLOURS["train"]] * len(operations[:BARS]) + ["#bbbbbb"]
    bars = axes.barh(range(len(shown)), [100 * share for _, share, _ in shown], color=colours[: len(shown)])
    axes.bar_label(bars, [f"{share:.1%}  ({calls:,} calls)" for _, share, calls in shown], padding=4, fontsize=9)
    axes.set_yticks(range(len(shown)), [_shortened(name) for name, _, _ in shown])
    axes.invert_yaxis()
    axes.margins(x=0.25)  # room for the labels
    axes.set_xlabel("share of the time that operations take themselves, %")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out)


def _shortened(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def draw_quantity(axes: Axes, rows: Sequence[Row], quantity: str, best_step: int | None, *, tested: bool) -> None:
    """Draw one quantity of all splits against the step."""
    for split, prefix in PREFIXES.items():
        steps, values = _series(rows, f"{prefix}/{quantity}")
        # Validation comes once an epoch: its points are marked. A lone point would be no line at all.
        marker = "o" if split == "validation" or len(steps) == 1 else None
        if steps:
            axes.plot(steps, values, color=COLOURS[split], marker=marker, markersize=4, label=split)
    best = [row for row in rows if row["step"] == best_step and f"val/{quantity}" in row]
    for row in best:
        value = row[f"val/{quantity}"]
        axes.plot(
            row["step"],
            value,
            linestyle="none",
            marker="*",
            markersize=14,
            color=COLOURS["validation"],
            markeredgecolor="black",
            label=f"best, epoch {row['epoch'] + 1}: {value:.4f}",
        )
    _, tests = _series(rows, f"test/{quantity}")
    if tests and tested:
        axes.axhline(tests[-1], color=COLOURS["test"], linestyle="--", label=f"test: {tests[-1]:.4f}")
    axes.set_title(quantity)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", va="center")


def _series(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Return steps and values of a metric where it was logged."""
    logged = [row for row in rows if name in row]
    return [row["step"] for row in logged], [row[name] for row in logged]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; other modules must not import matplotlib, as the setting above comes first."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, out: Path) -> None:
    """Write a figure as the PNG `out`, atomically, without looking for a display."""
    FigureCanvasAgg(figure)
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def plot_comparison(names: Sequence[str], values: Sequence[Sequence[float]], out: Path, *, label: str) -> None:
    """Draw the values of each named setting in a row of its own and write the PNG `out` atomically.

    The mean has a bar of one sample standard deviation to each side where there are two values or more.
    """
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, own in enumerate(values):
        if not own:
            continue
        axes.plot(own, [row] * len(own), linestyle="none", marker="o", color=COLOURS["train"], alpha=0.5)
        deviation = statistics.stdev(own) if len(own) > 1 else 0.0
        axes.errorbar(
            statistics.fmean(own), row + 0.22, xerr=deviation, fmt="D", color="black", capsize=4, markersize=5
        )
    axes.set_yticks(range(len(names)), names, parse_math=False)  # as typed, in which a $ begins no formula
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{label}: runs (o), mean and standard deviation (◆)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out)
