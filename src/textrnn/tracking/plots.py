"""Pictures in the run directory. Drawn without pyplot, which would keep global state and look for a display."""

import functools
import os
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from textrnn.base.files import replacing, writable_cache

# Before matplotlib is imported: it would make a folder of settings in the home; its cache of fonts is all it needs.
os.environ["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR") or writable_cache("matplotlib")

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from textrnn.base.intervals import interval
from textrnn.tracking.metrics_csv import PREFIXES, Row, read_metrics

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, GRAY = (
    *("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"),
    "#999999",
)
"""Colors that color-blind readers tell apart too (Okabe and Ito 2008), of all pictures of the project."""
CELLS = {"rnn": (VERMILLION, "o"), "lstm": (BLUE, "s"), "gru": (GREEN, "^")}
"""Color and marker of a cell, in every picture."""
SPLITS = {"train": (SKY, "."), "validation": (PURPLE, "o"), "test": (BLACK, "D")}
"""Color and marker of a split."""
SERIES = (*CELLS.values(), (ORANGE, "D"), (PURPLE, "v"), (SKY, "P"), (BLACK, "X"))
"""Colors and markers of what is neither, in turn."""
DPI = 240
"""Pixels an inch: twice what a page needs, for screens with twice the pixels."""
BARS = 12
"""Operations in the picture of a profile; the others are one bar."""


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


def plot_curves(
    metrics_csv: Path, out: Path, *, name: str, monitor: str, best_step: int | None = None, tested: bool = True
) -> None:
    """Draw loss and accuracy, or perplexity, of training and validation by step, and write the PNG `out` atomically.

    `name` is the run's. `best_step` marks the step whose checkpoint was chosen, by `monitor`. The last test is a line,
    unless the run was continued and not `tested` again. A run without one of the metrics has an empty panel.
    """
    rows = read_metrics(metrics_csv)
    figure = new_figure(10, 4.8)
    figure.suptitle(drawable(name), parse_math=False)  # in a run's name a $ begins no formula
    second = "perplexity" if any("val/perplexity" in row for row in rows) else "accuracy"
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", second), strict=True):
        draw_quantity(axes, rows, quantity, best_step, monitor=monitor, tested=tested)
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
    colors = [BLUE] * len(operations[:BARS]) + [GRAY]
    bars = axes.barh(range(len(shown)), [100 * share for _, share, _ in shown], color=colors[: len(shown)])
    axes.bar_label(bars, [f"{share:.1%}  ({calls:,} calls)" for _, share, calls in shown], padding=4, fontsize=9)
    axes.set_yticks(range(len(shown)), [shortened(name) for name, _, _ in shown])
    axes.invert_yaxis()
    axes.margins(x=0.25)  # room for the labels
    axes.set_xlabel("share of the time that operations take themselves, %")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out)


@functools.cache
def _glyphs() -> Collection[int]:
    """Return the code points of the characters that the pictures' font has."""
    return frozenset(font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap())


def drawable(text: str) -> str:
    r"""Return a text whose characters outside the pictures' font are escaped, such as \u597d: it has a box for them."""
    return "".join(
        one if one == "\n" or ord(one) in _glyphs() else one.encode("ascii", "backslashreplace").decode()
        for one in text
    )


def class_label(name: str, number: int, most: int) -> str:
    """Return a class's name of at most `most` characters; with its id where the font lacks some of them."""
    shown = drawable(" ".join(name.split()))
    return shortened(name if shown == name else f"{number}: {shown}", most)


def shortened(name: str, most: int = 44) -> str:
    """Return a name that can be drawn, with at most `most` characters."""
    name = drawable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def draw_quantity(
    axes: Axes, rows: Sequence[Row], quantity: str, best_step: int | None, *, monitor: str, tested: bool
) -> None:
    """Draw one quantity of all splits against the step."""
    for split in ("train", "validation"):
        color, marker = SPLITS[split]
        steps, values = _series(rows, f"{PREFIXES[split]}/{quantity}")
        if steps:
            axes.plot(steps, values, color=color, marker=marker, markersize=5, label=split)
    for row in rows:
        if row["step"] == best_step and f"val/{quantity}" in row:
            value = row[f"val/{quantity}"]
            axes.plot(
                row["step"],
                value,
                linestyle="none",
                marker="*",
                markersize=14,
                color=SPLITS["validation"][0],
                markeredgecolor="black",
                label=f"best by {monitor}, epoch {row['epoch'] + 1}: {value:.4f}",
            )
    _, tests = _series(rows, f"test/{quantity}")
    if tests and tested:
        axes.axhline(tests[-1], color=SPLITS["test"][0], linestyle="--", label=f"test: {tests[-1]:.4f}")
    axes.set_title(quantity)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)  # hides no curve
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
        figure.savefig(temporary, format="png", dpi=DPI)


def plot_comparison(names: Sequence[str], values: Sequence[Sequence[float]], out: Path, *, label: str) -> None:
    """Draw the values of each named setting in a row and a color of its own and write the PNG `out` atomically.

    From two values on the mean has its 95 % interval. That of two values may leave the picture.
    """
    figure = new_figure(8, 1.7 + 0.55 * len(names))
    axes = figure.subplots()
    for row, (own, (color, marker)) in enumerate(zip(values, looks(names), strict=True)):
        axes.plot(own, [row] * len(own), linestyle="none", marker=marker, color=color, alpha=0.6)
        if len(own) > 1:
            mean = statistics.fmean(own)
            axes.errorbar(mean, row + 0.25, xerr=interval(own), fmt="d", color=color, capsize=4, markersize=7)
    counted = [f"{drawable(name)}\nn = {len(own)}" for name, own in zip(names, values, strict=True)]
    axes.set_yticks(range(len(names)), counted, parse_math=False)  # as typed, in which a $ begins no formula
    axes.set_ylim(len(names) - 0.4, -0.5)
    axes.set_xlim(*_shown_range(values))
    axes.set_xlabel(label)
    counts = [len(own) for own in values]
    note = "a mark a seed; below them their mean (◆) and its 95 % interval (Student's t)"
    if max(counts) < 2:
        note = "one seed a setting, which has no interval"
    elif 2 in counts:
        note += ", which may leave the picture for n = 2"
    figure.supxlabel(note, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out)


def looks(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a color and a marker for each setting: a cell's own where each setting has another cell."""
    cells = [cell for name in names for cell in CELLS if f"model={cell}" in name.split(", ")]
    if len(cells) == len(names) == len(set(cells)):
        return [CELLS[cell] for cell in cells]
    return [SERIES[number % len(SERIES)] for number in range(len(names))]


def _shown_range(values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the limits that hold all values, and the intervals of means of three and more."""
    ends = [end for own in values for end in own]
    for own in values:
        if len(own) > 2:
            ends += [statistics.fmean(own) - interval(own), statistics.fmean(own) + interval(own)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin
