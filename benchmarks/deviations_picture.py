"""The picture of `deviations.py`: a panel or two for each deviation."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

import deviations_padding
import deviations_stream
from report import Report, Table

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Told apart by colour-blind readers too (Paul Tol's bright scheme)."""


def draw(report: Report, path: Path) -> None:
    """Draw all panels and write the PNG atomically."""
    from textrnn.tracking.plots import new_figure, save_figure

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
        panel.bar(places, means, 0.25, yerr=sds, capsize=3, color=COLOURS[number], label=way)
    panel.set_xticks(range(len(cells)), cells)
    panel.set_ylim(45, 90)
    panel.set_title("1 Which state is classified")
    panel.set_ylabel("test accuracy, %")
    panel.legend(fontsize=8, loc="upper left")


def _read_later(panel: Any, table: Table) -> None:
    for colour, (cell, values) in zip(COLOURS, table.cells.items(), strict=False):
        _line(panel, list(map(int, values)), list(values.values()), color=colour, label=cell)
    panel.set_xscale("symlog", linthresh=5)
    panel.set_xticks(deviations_padding.COUNTS, list(map(str, deviations_padding.COUNTS)))
    panel.set_ylim(45, 90)
    panel.set_title("1 Trained right, read after padding")
    panel.set_xlabel("padding tokens behind the review")
    panel.set_ylabel("test accuracy, %")
    panel.legend(fontsize=8)


def _epochs(panel: Any, table: Table) -> None:
    for colour, (name, values) in zip(COLOURS, table.cells.items(), strict=False):
        epochs = {column: cells for column, cells in values.items() if column.startswith("epoch ")}
        _line(panel, range(1, len(epochs) + 1), list(epochs.values()), color=colour, label=name)
    panel.set_xticks(range(1, len(epochs) + 1))
    panel.set_title("2 Dropout and initialisation")
    panel.set_xlabel("epoch")
    panel.set_ylabel("test accuracy, %")
    panel.legend(fontsize=8, loc="lower right")


def _choices(panel: Any, measured: Table, computed: Table) -> None:
    for colour, row in zip(COLOURS, measured.cells, strict=False):
        for table, style in ((measured, "o-"), (computed, ":")):
            cells = table.cells[row]
            label = f"chosen on {row}" if table is measured else None
            panel.plot(
                list(map(int, cells)), [values[0] for values in cells.values()], style, color=colour, label=label
            )
    panel.plot([], [], ":", color="grey", label="equally good, independent")
    panel.set_xscale("log")
    panel.set_xticks(choices := [int(column) for column in measured.columns], list(map(str, choices)))
    panel.minorticks_off()
    panel.set_title("3 Best of so many, reported by what chose it")
    panel.set_xlabel("candidates")
    panel.set_ylabel("too good by, points")
    panel.legend(fontsize=8)


def _stream(panel: Any, curves: dict[str, list[float]]) -> None:
    ways = (deviations_stream.BUFFER_OF_SORTED, deviations_stream.LARGER, deviations_stream.TRUE)
    for colour, way in zip((COLOURS[1], COLOURS[3], COLOURS[0]), ways, strict=True):
        panel.plot([100 * share for share in curves[f"4 {way}"]], color=colour, label=way, linewidth=1)
    panel.set_title("4 Positive reviews in a batch, along an epoch")
    panel.set_xlabel("batch")
    panel.set_ylabel("positive, %")
    panel.legend(fontsize=8)


def _steps(panel: Any, curves: dict[str, list[float]]) -> None:
    steps = 100 * np.array(curves["5 steps"])
    epochs = len(curves["5 test"])
    places = np.arange(1, epochs + 1) * len(steps) / epochs
    panel.plot(steps, ".", markersize=2, color="grey", alpha=0.6, label="each step's batch")
    means = [part.mean() for part in np.array_split(steps, epochs)]
    panel.plot(places, means, "s-", color=COLOURS[1], label="mean of the epoch's steps")
    for name, colour in (("train", COLOURS[0]), ("validation", COLOURS[2]), ("test", COLOURS[3])):
        values = [100 * value for value in curves[f"5 {name}"]]
        panel.plot(places, values, "o-", color=colour, label=f"{name} reviews after the epoch")
    panel.set_title("5 One run's accuracies")
    panel.set_xlabel("step")
    panel.set_ylabel("accuracy, %")
    panel.legend(fontsize=8, loc="lower right")


def _line(panel: Any, places: Any, cells: list[list[float]], **style: Any) -> None:
    means, sds = zip(*map(_mean_sd, cells), strict=True)
    panel.errorbar(places, means, yerr=sds, marker="o", markersize=4, capsize=3, **style)


def _mean_sd(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
