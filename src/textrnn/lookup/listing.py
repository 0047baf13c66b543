"""The table of runs: a line for each run, or one for all runs of a sweep or multirun."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from textrnn.base.console import duration
from textrnn.lookup.records import RunRecord
from textrnn.lookup.selection import best_of, check_name, is_missing, order_of, told, value_of
from textrnn.tracking.metrics_csv import METRICS
from textrnn.tracking.summary import RunSummary

DEFAULT = ("val/accuracy", "test/accuracy", "model.cell", "seed", "created", "seconds")
"""Columns after path and state, where none are chosen."""
NEWEST = "-created"
"""The order where none is chosen."""
VALUES = 3
"""Different values in a line of several runs; of more the number is shown."""
OF_A_RUN = {*METRICS, *RunSummary.__dataclass_fields__}
"""What belongs to a single run: a line of several runs has its best run's."""


@dataclass(frozen=True, slots=True)
class Line:
    """A run, or the runs of a sweep or multirun."""

    path: str
    runs: Sequence[RunRecord]

    def value(self, name: str) -> Any:
        """Return the line's value: of several runs their best run's results, the latest time, or what they share."""
        if name == "path":
            return self.path
        if len(self.runs) == 1:
            return value_of(self.runs[0], name)
        if name in OF_A_RUN:
            best = self._best()
            return None if best is None else value_of(best, name)
        values = [value_of(run, name) for run in self.runs if run.state != "damaged"]
        if name == "state":
            counts = Counter(run.state for run in self.runs)
            return ", ".join(f"{count} {state}" for state, count in counts.most_common())
        if name == "created":
            return max((value for value in values if value), default=None)
        different = list(dict.fromkeys(map(told, values)))
        if len(different) == 1:
            return values[0]
        return ",".join(different) if len(different) <= VALUES else f"{len(different)} values"

    def _best(self) -> RunRecord | None:
        """Return the best run by what chose its checkpoint; the test chooses nothing."""
        readable = [run for run in self.runs if run.state != "damaged"]
        monitor = readable[0].config.get("early_stopping.monitor", "val/accuracy") if readable else "val/accuracy"
        return best_of(readable, str(monitor))


def lines_of(records: Sequence[RunRecord], within: Mapping[Path, Path]) -> list[Line]:
    """Return the lines of runs; those of one sweep or multirun share a line."""
    folded: dict[str, list[RunRecord]] = {}
    for record in records:
        folder = within.get(record.path)
        folded.setdefault(str(record.path) if folder is None else f"{folder}/", []).append(record)
    return [Line(path, runs) for path, runs in folded.items()]


def in_order(lines: Sequence[Line], sort: str) -> list[Line]:
    """Return the lines by a name, with a minus in front from the largest down; those without a value come last."""
    name = sort.removeprefix("-")
    with_value = [(line.value(name), line) for line in lines]
    there = [pair for pair in with_value if not is_missing(pair[0])]
    there.sort(key=lambda pair: order_of(pair[0]), reverse=sort.startswith("-"))
    return [line for _, line in there] + [line for value, line in with_value if is_missing(value)]


def columns_of(typed: str | None, sort: str, where: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Return the columns after path and state: those that were typed, or the default's after those in use.

    Raises:
        InputError: no run has such a key or metric.
    """
    if typed is not None:
        chosen = [name.strip() for name in typed.split(",") if name.strip()]
        for name in chosen:
            check_name(name, records, f"--columns {typed}")
    else:
        chosen = [*where, *([] if sort == NEWEST else [sort.removeprefix("-")]), *DEFAULT]
    return [name for name in dict.fromkeys(chosen) if name not in ("path", "state")]


def print_lines(lines: Sequence[Line], columns: Sequence[str]) -> None:
    """Print the table; on a terminal that is too narrow without the last columns, which a line then names."""
    names = ["path", "state", *columns]
    rows = [_cells(line, names) for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(names, *(row for row in rows if len(row) > 2), strict=True)]
    for row in rows:  # one of a damaged run has its reason in place of the rest
        widths[0] = max(widths[0], cell_len(row[0]))
    shown = len(names)
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        while shown > 2 and sum(widths[:shown]) + 2 * (shown - 1) > shutil.get_terminal_size().columns:
            shown -= 1
    right = {place for place, name in enumerate(names) if _is_number(line.value(name) for line in lines)}
    for row in (names, *rows):
        print(_aligned(row[:shown], widths, right))
    if left_out := names[shown:]:
        print(f"(not shown, as the terminal is too narrow: {', '.join(left_out)})")


def _cells(line: Line, names: Sequence[str]) -> list[str]:
    if len(line.runs) == 1 and line.runs[0].state == "damaged":
        return [line.path, f"damaged: {line.runs[0].summary['damage']}"]
    return [cell(name, line.value(name)) for name in names]


def cell(name: str, value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if name == "created":
        return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M}"
    if name in ("seconds", "waited_seconds") and isinstance(value, int | float):
        return duration(value)
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:.0f}"
        return f"{value:.4f}" if name in METRICS and abs(value) >= 1e-3 else f"{value:.4g}"
    return " ".join(told(value).split())  # a note may have several lines


def _is_number(values: Iterable[Any]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, int | float) for value in there)


def _aligned(row: Sequence[str], widths: Sequence[int], right: set[int]) -> str:
    padded = []
    for place, text in enumerate(row):
        space = " " * (widths[place] - cell_len(text))
        padded.append(space + text if place in right else text + space)
    return "  ".join(padded).rstrip()


def counted(records: Sequence[RunRecord]) -> str:
    """Return the number of runs by state, such as "3 runs: 2 finished, 1 running"."""
    states = Counter(record.state for record in records)
    number = f"{len(records):,} run{'s' * (len(records) != 1)}"
    return f"{number}: {', '.join(f'{count:,} {state}' for state, count in states.most_common())}" if states else number
