"""Runs as CSV or JSON, whole: identity, state, configuration and results."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textrnn.lookup.records import RunRecord
from textrnn.lookup.selection import told, value_of


def as_csv(runs: Sequence[RunRecord]) -> str:
    """Return a row for each run, with a column for each key that any of them has."""
    parts = ("identity", "config", "summary")
    found = [dict.fromkeys(name for run in runs for name in getattr(run, part)) for part in parts]
    columns = list(dict.fromkeys(("path", "state", *(name for names in found for name in names))))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for run in runs:
        values = [value_of(run, name) for name in columns]
        writer.writerow("" if value is None else told(value) for value in values)
    return text.getvalue()


def as_json(runs: Sequence[RunRecord], within: Mapping[Path, Path]) -> str:
    """Return a list with an object for each run; a value that is not finite is null, as JSON has none."""
    exported = [
        {
            "path": str(run.path),
            "within": None if (folder := within.get(run.path)) is None else str(folder),
            "state": run.state,
            "identity": dict(run.identity),
            "config": dict(run.config),
            "summary": dict(run.summary),
        }
        for run in runs
    ]
    return json.dumps(_finite(exported), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
