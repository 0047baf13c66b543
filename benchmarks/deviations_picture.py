"""The picture of `deviations.py`: a panel or two for each deviation."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

import deviations_padding
import deviations_stream
from report import Report, Table
from textrnn.tracking.plots import (
    BLACK,
    CELLS,
    GRAY,
    ORANGE,
    PURPLE,
    SKY,
    SPLITS,
    new_figure,
    save_figure,
)

CHANCE = 50.0
"""Accuracy in % of a coin."""
HATCHES = ("", "///", "...")


def draw(report: Report, path: Path) -> None:
    """Draw all panels and write the PNG atomically."""
    figure = new_figure(15, 9)
    panels = figure.subplots(2, 3)
    tables = {table.title: table for table in report.tables}

    def found(start: str) -> Table:
        return next(table for title, table in tables.items() if title.startswith(start))

    _trained(panels[0][0], found("1 padding: accuracy"))
    _read_later(panels[0][1], found("1 padding: trained and read"))
    _epochs(panels[0][2], found("2 dropout"))
    _choices(panels[1][0], found("3 choosing: best of"), found("3 choosing: the same"))
    _stream(panels[1][1], report.curves)
    _steps(panels[1][2], report.curves)
    for panel in panels.flat:
        panel.grid(alpha=0.3)
    save_figure(figure, path)


def _trained(panel: Any, table: Table) -> None:
    cells = table.columns
    for number, (way, values) in enumerate(table.cells.items()):
        places = [cells.index(cell) + 0.27 * (number - 1) for cell in values]
        means, sds = zip(*map(_mean_sd, values.values()), strict=True)
        looks = {"color": [CELLS[cell][0] for cell in values], "edgecolor": "white", "hatch": HATCHES[number]}
        panel.bar(places, means, 0.25, yerr=sds, capsize=3, **looks)
        panel.bar(0, 0, color=GRAY, edgecolor="white", hatch=HATCHES[number], label=way)
    panel.axhline(CHANCE, color=BLACK, linestyle="--", linewidth=1, label="chance")
    panel.set_xticks(range(len(cells)), cells)
    panel.set_ylim(0, 115)
    panel.set_yticks(range(0, 101, 20))
    panel.set_title("1 Which state is classified")
    panel.set_ylabel("test accuracy, %")
    panel.legend(fontsize=8, loc="upper left")


def _read_later(panel: Any, table: Table) -> None:
    for cell, values in table.cells.items():
        color, marker = CELLS[cell]
        _line(panel, list(map(int, values)), list(values.values()), color=color, marker=marker, label=cell)
    panel.axhline(CHANCE, color=BLACK, linestyle="--", linewidth=1, label="chance")
    panel.set_xscale("symlog", linthresh=5)
    panel.set_xticks(deviations_padding.COUNTS, list(map(str, deviations_padding.COUNTS)))
    panel.minorticks_off()
    panel.set_xlim(-0.5, 1.2 * deviations_padding.COUNTS[-1])
    panel.set_title("1 Trained correctly, read after padding")
    panel.set_xlabel("padding tokens behind the review")
    _from(panel, 45)
    panel.legend(fontsize=8)


def _epochs(panel: Any, table: Table) -> None:
    looks = ((ORANGE, "D"), (PURPLE, "v"), (SKY, "P"), (BLACK, "X"))
    for number, ((color, marker), (name, values)) in enumerate(zip(looks, table.cells.items(), strict=False)):
        epochs = {column: cells for column, cells in values.items() if column.startswith("epoch ")}
        places = [epoch + 0.05 * (number - 1.5) for epoch in range(1, len(epochs) + 1)]  # bars side by side
        _line(
            panel, places, list(epochs.values()), color=color, marker=marker, label=name.replace("isation", "ization")
        )
    panel.set_xticks(range(1, len(epochs) + 1))
    panel.set_title("2 Dropout and initialization")
    panel.set_xlabel("epoch")
    _from(panel, 45)
    panel.legend(fontsize=8, loc="lower right")


def _choices(panel: Any, measured: Table, computed: Table) -> None:
    from matplotlib import colormaps  # `textrnn.tracking.plots` is imported first, and says where it keeps its cache

    for color, marker, row in zip(colormaps["cividis"].resampled(6)(range(5)), "osD^v", measured.cells, strict=False):
        for table, style in ((measured, "-"), (computed, ":")):
            cells = table.cells[row]
            values = [values[0] for values in cells.values()]
            look = {"label": f"chosen on {int(row.split()[0]):,} reviews", "marker": marker} if style == "-" else {}
            panel.plot(list(map(int, cells)), values, style, color=color, **look)
    panel.plot([], [], ":", color=GRAY, label="equally good, independent")
    panel.set_xscale("log")
    panel.set_xticks(choices := [int(column) for column in measured.columns], list(map(str, choices)))
    panel.minorticks_off()
    panel.set_title("3 Best of so many, reported by what chose it")
    panel.set_xlabel("candidates")
    panel.set_ylabel("too good by, points")
    panel.legend(fontsize=8)


def _stream(panel: Any, curves: dict[str, list[float]]) -> None:
    ways = (deviations_stream.BUFFER_OF_SORTED, deviations_stream.LARGER, deviations_stream.TRUE)
    for (color, marker), way in zip(((ORANGE, "D"), (PURPLE, "v"), (BLACK, "X")), ways, strict=True):
        shares = [100 * share for share in curves[f"4 {way}"]]
        panel.plot(shares, color=color, marker=marker, markevery=20, markersize=5, label=way, linewidth=1)
    panel.set_ylim(-5, 135)
    panel.set_yticks(range(0, 101, 20))
    panel.set_title("4 Positive reviews in a batch, along an epoch")
    panel.set_xlabel("batch")
    panel.set_ylabel("positive, %")
    panel.legend(fontsize=8)


def _steps(panel: Any, curves: dict[str, list[float]]) -> None:
    steps = 100 * np.array(curves["5 steps"])
    epochs = len(curves["5 test"])
    places = np.arange(1, epochs + 1) * len(steps) / epochs
    panel.plot(steps, ".", markersize=2, color=GRAY, alpha=0.6, label="each step's batch")
    means = [part.mean() for part in np.array_split(steps, epochs)]
    panel.plot(places, means, "s-", color=ORANGE, label="mean of the epoch's steps")
    for name, (color, marker) in SPLITS.items():
        values = [100 * value for value in curves[f"5 {name}"]]
        panel.plot(places, values, color=color, marker=marker, label=f"{name} reviews after the epoch")
    panel.set_title("5 One run's accuracies")
    panel.set_xlabel("step")
    _from(panel, 40, "accuracy")
    panel.legend(fontsize=8, loc="lower right")


def _from(panel: Any, start: float, what: str = "test accuracy") -> None:
    """Begin the axis at `start`, and say so."""
    panel.set_ylim(start, 100)
    panel.set_ylabel(f"{what}, %, from {start}")


def _line(panel: Any, places: Any, cells: list[list[float]], **style: Any) -> None:
    means, sds = zip(*map(_mean_sd, cells), strict=True)
    panel.errorbar(places, means, yerr=sds, markersize=5, capsize=3, **style)


def _mean_sd(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
