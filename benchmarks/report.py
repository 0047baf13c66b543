"""Results of a benchmark: the record in JSON, and the printed tables."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from timing import spread

ONCE = "measured once"


@dataclass(kw_only=True, slots=True)
class Claim:
    """A figure with one value a repeat, and the target for its median, if there is one."""

    name: str
    """Name of the measurement, such as "lstm: tokens/s over the tutorials' code"."""
    values: list[float]
    unit: str = "×"
    at_least: float | None = None
    at_most: float | None = None
    busy: bool = False
    """Whether the machine did too much else for the values to say something."""

    @property
    def met(self) -> bool | None:
        """Return whether the median reaches the target; None without one, or on a busy machine."""
        median, _, _ = spread(self.values)
        if self.busy:
            return None
        if self.at_least is not None:
            return median >= self.at_least
        return None if self.at_most is None else median <= self.at_most

    @property
    def target(self) -> str:
        """Return the target, such as "≥ 60 ×"; empty without one."""
        sign, limit = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return "" if limit is None else f"{sign} {number(limit)} {self.unit}".rstrip()


@dataclass(kw_only=True, slots=True)
class Table:
    """Figures of one unit by row and column, one value a repeat. A row may lack columns."""

    title: str
    unit: str
    statistic: str = "medians"
    """Statistic of the values: medians, or "mean ± sd" (the sample's standard deviation)."""
    cells: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: str, column: str, values: list[float]) -> None:
        """Set the values of a cell."""
        self.cells.setdefault(row, {})[column] = values

    def append(self, row: str, column: str, value: float) -> None:
        """Add the value of another repeat to a cell."""
        self.cells.setdefault(row, {}).setdefault(column, []).append(value)

    @property
    def columns(self) -> list[str]:
        """Return all columns, in the order in which they were added."""
        return list(dict.fromkeys(column for row in self.cells.values() for column in row))

    @property
    def how(self) -> str:
        """Return the name of the statistic, or "measured once"."""
        several = any(len(values) > 1 for row in self.cells.values() for values in row.values())
        return self.statistic if several else ONCE

    def told(self, row: str, column: str) -> str:
        """Return the statistic of a cell; empty where the row lacks the column."""
        values = self.cells[row].get(column)
        if values is None:
            return ""
        if self.statistic == "medians":
            return number(spread(values)[0])
        mean = f"{statistics.fmean(values):.2f}"
        return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


@dataclass(kw_only=True, slots=True)
class Report:
    """All results of a benchmark."""

    benchmark: str
    settings: dict[str, Any]
    """Settings of this run, such as `repeats`; plain JSON values without paths."""
    where: dict[str, Any]
    """`machine.describe()`."""
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Series that only pictures tell, by name."""

    def write(self, path: Path) -> None:
        """Write the JSON beside its place, then rename it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.tmp")
        draft.write_text(json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.rename(path)

    def keep(self, folder: Path | None) -> None:
        """Write the measurements so far, so that they survive a failure of the rest."""
        if folder is not None:
            self.write(folder / f"{self.benchmark}.json")

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a report that `write` has written."""
        values = json.loads(path.read_text(encoding="utf-8"))
        claims = [Claim(**claim) for claim in values.pop("claims")]
        tables = [Table(**table) for table in values.pop("tables")]
        return cls(**values, claims=claims, tables=tables)


def show(report: Report, console: Console) -> None:
    """Print the machine, the claims and the tables."""
    where = report.where
    console.print(
        f"{report.benchmark}: " + ", ".join(f"{key} {value}" for key, value in report.settings.items()), style="bold"
    )
    console.print(", ".join(f"{key} {value}" for key, value in where["machine"].items() if value is not None))
    console.print(", ".join(f"{key} {value}" for key, value in where["versions"].items()))
    console.print(f"commit {where['commit']}, {where['date']}")
    if report.claims:
        claims = RichTable(heading(report.claims), "median", "min to max", "target", "")
        for claim in report.claims:
            median, low, high = spread(claim.values)
            met = {True: "[green]met", False: "[red]missed", None: "busy machine" if claim.busy else ""}[claim.met]
            claims.add_row(
                claim.name, f"{number(median)} {claim.unit}", f"{number(low)} to {number(high)}", claim.target, met
            )
        console.print(claims)
    for table in report.tables:
        figures = RichTable(
            "", *table.columns, title=f"{table.title} ({table.unit}), {table.how}", title_justify="left"
        )
        for row in table.cells:
            figures.add_row(row, *(table.told(row, column) for column in table.columns))
        console.print(figures)


def heading(claims: list[Claim]) -> str:
    """Return the statistic that is reported of the claims' values."""
    return "median of paired repeats" if any(len(claim.values) > 1 for claim in claims) else ONCE


def number(value: float) -> str:
    """Return the value with three significant digits, or whole with thousands separated."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _rounded(value: Any) -> Any:
    """Round floats to six significant digits: more are noise, which would make every line of a diff differ."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
