"""The content of a page: what runs have in common, where they differ, how they ended, which one is the best."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.lookup.index import find_runs
from textrnn.lookup.records import Kind, RunRecord, kind_of, sweep_metrics
from textrnn.reporting.curves import curves_of, points_for, shortened
from textrnn.reporting.evaluations import evaluations
from textrnn.sweeping.importance import importances
from textrnn.tracking.metrics_csv import BEST, Row, best_is, surviving_rows
from textrnn.tracking.run_directory import RunDirectory

MOST_RUNS = 1000
"""Runs of a page; of more, the best."""
DETAILED = 20
"""Runs whose evaluations a page has; of more, the best."""
NAMED = 3
"""The title names so many folders."""
OF_THE_RECORDS = ("run_dir", "resume", "tracking")
"""Keys and sections that say where and how a run is recorded, not what it is."""
ENDED = ("finished", "stopped")
"""States in which a run's metrics are final."""
MISSING = "(no such key)"
"""Value of a key that a run of another version lacks."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """The metric that runs are ordered by."""

    name: str
    goal: str
    """Whether the smallest or the largest value is the best: "min" or "max"."""

    def key(self, value: float | None) -> tuple[bool, float]:
        """Return a key that sorts the best first, and what has no value last."""
        if value is None or math.isnan(value):
            return True, 0.0
        return False, value if self.goal == "min" else -value


def readable_runs(typed: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """Read the runs at and below the typed paths, each once; return them and a line for each that can't be read.

    Raises:
        InputError: there is no such folder, or no run that can be read.
    """
    found = find_runs(typed)
    problems = [f"left out: {run.path}: {run.summary['damage']}" for run in found.damaged]
    if not found.runs:
        raise InputError(problems[0].removeprefix("left out: "))
    return found.runs, problems


def order_by(typed: Sequence[str], records: Sequence[RunRecord]) -> Metric:
    """Return the metric of the sweep, else the one by which the first run chooses its best checkpoint.

    Without a value of it in any run, the first metric that has values and a best one.
    """
    configured = str(records[0].config.get("early_stopping.monitor", "val/accuracy"))
    metric = Metric(name=configured, goal=_goal(configured))
    for declared in sweep_metrics(Path(typed[0]))[:1]:
        metric = Metric(name=declared["name"], goal="max" if declared.get("goal") == "maximize" else "min")
    if not any(metric.name in record.metrics for record in records):
        names = sorted({name for record in records for name in record.metrics if _goal(name)}, key=_is_of_training)
        metric = Metric(name=names[0], goal=_goal(names[0])) if names else metric
    return metric


def _is_of_training(name: str) -> bool:
    return name.startswith("train/")


def _goal(name: str) -> str:
    return best_is(name) if name.rpartition("/")[2] in BEST else ""


def content(typed: Sequence[str], records: Sequence[RunRecord], problems: Iterable[str] = ()) -> dict[str, Any]:
    """Return all that a page shows but the curves, as JSON values; `notes` says what is left out."""
    notes = list(problems)
    metric = order_by(typed, records)
    values = [record.metrics.get(metric.name) for record in records]
    best_first = sorted(range(len(records)), key=lambda place: metric.key(values[place]))
    shown = [records[place] for place in sorted(best_first[:MOST_RUNS])]
    if len(records) > len(shown):
        notes.append(f"{len(records):,} runs: the page has the {MOST_RUNS:,} with the best {metric.name}")
    varied, shared = compared_settings([record.config for record in records])
    best = [str(records[place].path) for place in best_first[:DETAILED]]
    detailed, damaged = _evaluations(best)
    notes += damaged
    if len(records) > DETAILED:
        notes.append(f"evaluations and mistakes are those of the {DETAILED} runs with the best {metric.name}")
    return {
        "title": _title(typed),
        "kind": _kind(typed),
        "notes": notes,
        "metric": asdict(metric),
        "varied": varied,
        "shared": shared,
        "runs": [_run(record, varied, name) for record, name in zip(shown, _labels(shown), strict=True)],
        "importance": _importance(records, values, varied),
        "evaluations": detailed,
    }


def _title(typed: Sequence[str]) -> str:
    """Return the folders' names; of many, where they are."""
    names = [text.rstrip("/") for text in typed]
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{len(names)} folders in {', '.join(sorted({str(Path(name).parent) for name in names})[:NAMED])}"


def _kind(typed: Sequence[str]) -> Kind:
    return kind_of(Path(typed[0])) if len(typed) == 1 else "folder"


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Return each run's name, with its folder's where several runs share a name."""
    names = [record.name for record in records]
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [
        name if counts[name] == 1 else f"{record.path.name}: {name}"
        for record, name in zip(records, names, strict=True)
    ]


def _run(record: RunRecord, varied: Sequence[str], label: str) -> dict[str, Any]:
    summary = record.summary
    return {
        "path": str(record.path),
        "label": label,
        "state": record.state,
        "settings": {key: plain(record.config.get(key, MISSING)) for key in varied},
        "metrics": {name: shortened(value) for name, value in record.metrics.items()},
        "seconds": summary.get("seconds"),
        "parameters": summary.get("parameters"),
        "step": summary.get("step"),
        "best_step": summary.get("best_step"),
    }


def compared_settings(configs: Sequence[Settings]) -> tuple[list[str], dict[str, Any]]:
    """Return the keys whose values differ between runs, and the others with their values."""
    keys = {key: None for config in configs for key in config}
    varied, shared = [], {}
    for key in keys:
        if key in OF_THE_RECORDS or key.partition(".")[0] in OF_THE_RECORDS:
            continue
        first = configs[0].get(key, MISSING)
        if any(config.get(key, MISSING) != first for config in configs):
            varied.append(key)
        else:
            shared[key] = plain(first)
    return varied, shared


def plain(value: Any) -> Any:
    """Return a value of a configuration as a JSON value: lists and numbers that JSON lacks as text."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return json.dumps(value, default=str)


def _importance(records: Sequence[RunRecord], values: Sequence[float | None], varied: Sequence[str]) -> dict[str, Any]:
    pairs = [
        (record.config, value)
        for record, value in zip(records, values, strict=True)
        if value is not None and math.isfinite(value) and record.state in ENDED
    ]
    found = importances([config for config, _ in pairs], [value for _, value in pairs], varied)
    return {"runs": len(pairs), "parameters": [asdict(one) for one in found]}


def _evaluations(runs: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the evaluations of these runs, and a line for each run whose files are damaged."""
    found, damaged = [], []
    for run in runs:
        try:
            found += [{"run": run, **one} for one in evaluations(Path(run))]
        except InputError as error:
            damaged.append(f"left out: {error}")
    return found, damaged


def rows_of(path: str) -> list[Row]:
    """Return a run's rows of metrics; none before its first.

    Raises:
        InputError: a row other than the last is damaged.
    """
    return surviving_rows(RunDirectory.join(Path(path)).metrics_csv)


def with_curves(page: dict[str, Any], rows: Iterator[tuple[dict[str, Any], list[Row]]]) -> dict[str, Any]:
    """Add the curves to the runs of a page, and the metrics so far to those that have not ended."""
    points = points_for(len(page["runs"]))
    longest = 0
    for run, found in rows:
        run["curves"] = curves_of(found, points)
        longest = max(longest, len(found))
        if not run["metrics"]:
            run["metrics"] = metrics_so_far(found, page["metric"])
    if longest > points:
        page["notes"].append(
            f"curves have up to {points} points each: of the rows between, the least and the greatest value are kept"
        )
    return page


def metrics_so_far(rows: Sequence[Row], metric: Mapping[str, str]) -> dict[str, float | None]:
    """Return the last value of each metric, and of validation those at the best value of the page's metric."""
    found: dict[str, float] = {}
    for row in rows:
        found |= {name: value for name, value in row.items() if name not in ("step", "epoch")}
    order = Metric(name=metric["name"], goal=metric["goal"])
    if measured := [row for row in rows if order.name in row]:
        best = min(measured, key=lambda row: order.key(row[order.name]))
        found |= {name: value for name, value in best.items() if name.startswith("val/")}
    return {name: shortened(value) for name, value in found.items()}


def whole_content(typed: Sequence[str]) -> dict[str, Any]:
    """Return all that a page of the runs at and below the typed paths shows.

    Raises:
        InputError: there is no such folder, or no run that can be read.
    """
    records, problems = readable_runs(typed)
    page = content(typed, records, problems)

    def rows() -> Iterator[tuple[dict[str, Any], list[Row]]]:
        for run in page["runs"]:
            try:
                yield run, rows_of(run["path"])
            except InputError as error:
                page["notes"].append(f"no curves: {error}")
                yield run, []

    return with_curves(page, rows())
