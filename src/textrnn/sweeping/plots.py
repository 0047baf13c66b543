"""Plot of a sweep: the metric against each parameter that varies."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from textrnn.sweeping.metric import Metric
from textrnn.sweeping.trials import Trial
from textrnn.tracking.plots import BLUE, GRAY, VERMILLION, drawable, new_figure, save_figure
from textrnn.tracking.summary import Status

COLUMNS = 3
CHARACTERS = 24
"""Of labels that stand side by side under a panel."""
MARKS = {
    Status.FINISHED: ("o", BLUE),
    Status.STOPPED: ("v", GRAY),
    Status.FAILED: ("X", VERMILLION),
}
"""Marker and color by status; interrupted trials are not shown, as they are to be resumed."""


def plot_sweep(
    trials: Sequence[Trial], metric: Metric, parameters: Mapping[str, Mapping[str, Any]], out: Path, *, title: str
) -> None:
    """Plot a panel for each of `parameters` (name: specification in the sweep file) and write the PNG atomically."""
    columns = min(COLUMNS, len(parameters))
    rows = math.ceil(len(parameters) / columns)
    figure = new_figure(0.6 + 3.6 * columns, 1.2 + 2.9 * rows)
    figure.suptitle(drawable(title), parse_math=False)
    figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, (name, specification) in zip(figure.axes, parameters.items(), strict=False):
        _panel(axes, trials, metric, name, specification)
    for axes in figure.axes[len(parameters) :]:
        axes.set_visible(False)
    for axes in figure.axes[::columns]:
        axes.set_ylabel(f"best {metric.name}")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    save_figure(figure, out)


def _panel(axes: Axes, trials: Sequence[Trial], metric: Metric, name: str, specification: Mapping[str, Any]) -> None:
    values = [trial.parameters.get(name) for trial in trials]
    listed = list(specification.get("values", []))
    for status, (marker, color) in MARKS.items():
        points = [
            (listed.index(value) if listed else float(value or 0), trial.best(metric.sign))
            for trial, value in zip(trials, values, strict=True)
            if trial.status == status
        ]
        shown = [(x, y) for x, y in points if y is not None]
        axes.scatter(
            [x for x, _ in shown],
            [y for _, y in shown],
            marker=marker,
            color=color,
            edgecolors="white",
            linewidths=0.5,
            s=46,
            zorder=3 if status == Status.FINISHED else 2,
            label=f"{status} ({len(points)})",
        )
    if listed:
        texts = [drawable(str(value)) for value in listed]
        slanted: dict[str, Any] = {}
        if sum(map(len, texts)) > CHARACTERS:
            slanted = {"rotation": 30, "ha": "right"} if len(texts) < 8 else {"rotation": 90}
        # Values may be texts, in which a $ begins no formula.
        axes.set_xticks(range(len(listed)), texts, parse_math=False, **slanted)
        axes.set_xlim(-0.5, len(listed) - 0.5)
    else:
        # Few and short labels: those of a narrow range would overlap.
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if "log" in str(specification.get("distribution", "")):
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            decades = math.log10(high / low)
            if decades >= 1:
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 3 else (1,), numticks=6))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(name)
    axes.grid(visible=True, color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
