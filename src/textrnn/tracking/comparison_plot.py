"""The picture of a multirun: every run a point, its setting's mean and standard deviation beside it."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from textrnn.tracking.plots import COLOURS, save_figure


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
