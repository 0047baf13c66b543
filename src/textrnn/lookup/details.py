"""One run in full, and two runs side by side: configuration, metrics, environment, source, place, W&B."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from textrnn.base.console import duration
from textrnn.config.schema import Config, leaves
from textrnn.lookup.listing import cell
from textrnn.lookup.records import RunRecord
from textrnn.lookup.selection import told
from textrnn.tracking.metrics_csv import METRICS, surviving_rows
from textrnn.tracking.run_directory import RunDirectory

PLACE = ("run_dir", "resume")
"""Keys in which all runs differ."""
ENVIRONMENT = ("python", "torch", "slurm_job", "world_size", "batch_size_per_device")
SOURCE = ("version", "git_commit", "git_dirty", "source", "changes")
RESULT = ("step", "best_step", "best_epoch", "parameters", "tokens", "seconds")
LOG_TAIL = 16 * 1024
"""Bytes in which the last line of a log is looked for."""

Rows = Sequence[Sequence[str]]


def described(run: RunRecord) -> Iterator[str]:
    """Yield the lines about a run."""
    identity, directory = run.identity, RunDirectory.join(run.path)
    yield f"{run.path}: {run.name}"
    yield ""
    yield from table(
        [
            ("state", _state(run, directory)),
            ("created", f"{datetime.fromisoformat(identity['created']).astimezone():%Y-%m-%d %H:%M:%S %Z}"),
            ("command", shlex.join(identity.get("command") or [])),
            ("source", _source(identity, directory)),
            ("environment", f"Python {identity.get('python')}, torch {identity.get('torch')}"),
            *([("SLURM job", identity["slurm_job"])] if identity.get("slurm_job") else []),
            ("place", f"{run.path.absolute()} ({_size(run.path)})"),
            ("W&B", wandb_place(run)),
        ]
    )
    yield from ("", "configuration that differs from the defaults:")
    defaults = {key: value for key, _, value in leaves(Config())}
    changed = [key for key in run.config if key not in PLACE and run.config[key] != defaults.get(key)]
    rows = [
        (key, told(run.config[key]), f"default {told(defaults[key])}" if key in defaults else "") for key in changed
    ]
    yield from table(rows) or ["  none"]
    if metrics := _latest(run, directory):
        yield from ("", "metrics:" if run.summary else "last metrics so far:")
        yield from table([(name, cell(name, value)) for name, value in metrics.items()])
    if line := last_line(directory.train_log):
        yield from ("", f"last line of the log: {line}")


def compared(first: RunRecord, second: RunRecord) -> Iterator[str]:
    """Yield the lines on what differs between two runs."""
    heads = (str(first.path), str(second.path))
    config = [name for name in dict.fromkeys((*first.config, *second.config)) if name not in PLACE]
    metrics = [name for name in (*METRICS, *RESULT) if name in first.summary or name in second.summary]
    results, environments, sources = [], [], []
    for run in (first, second):
        results.append({"state": run.state, **run.summary})
        environments.append({**run.identity, **run.summary})
        sources.append({**run.identity, "changes": _patch(run)})
    parts: list[tuple[str, Sequence[str], Sequence[Mapping[str, Any]]]] = [
        ("configuration", config, (first.config, second.config)),
        ("results", ["state", *metrics], results),
        ("environment", ENVIRONMENT, environments),
        ("source", SOURCE, sources),
    ]
    for title, names, (one, other) in parts:
        different = [name for name in names if one.get(name) != other.get(name)]
        if different:
            values = [(name, one.get(name), other.get(name)) for name in different]
            if title == "configuration":  # in full, as they are typed
                rows = [(name, told(left), told(right)) for name, left, right in values]
            else:
                rows = [(name, cell(name, left), cell(name, right)) for name, left, right in values]
            yield from table([(title, *heads), *rows])
        else:
            yield f"  {title}: the same"
        yield ""


def wandb_place(run: RunRecord) -> str:
    """Return where the run is in W&B, and what is not uploaded."""
    directory = RunDirectory.join(run.path)
    if directory.wandb_url.is_file():
        url = directory.wandb_url.read_text(encoding="utf-8").strip()
        return f"{url} (a part is not uploaded)" if unsent(run.path) else url
    folder = directory.path / "wandb"
    if not folder.is_dir():
        return "no W&B run"
    if unsent(run.path):
        return f"not uploaded; upload: wandb sync {shlex.quote(str(folder))}/offline-run-*"
    return "uploaded"


def unsent(path: Path) -> bool:
    """Return whether a part of the run was recorded for W&B and may not be uploaded."""
    if RunDirectory.join(path).wandb_unsent.exists():
        return True
    files = (path / "wandb").glob("offline-run-*/run-*.wandb")
    return any(not file.with_name(f"{file.name}.synced").exists() for file in files)


def last_line(log: Path) -> str:
    """Return the last line of a log; empty without a line."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def table(rows: Rows) -> list[str]:
    """Return indented lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _state(run: RunRecord, directory: RunDirectory) -> str:
    if not run.summary:
        rows = surviving_rows(directory.metrics_csv)
        return f"{run.state}, at step {rows[-1]['step']:,}" if rows else f"{run.state}, before the first metric"
    said = f"{run.state} at step {run.summary['step']:,} after {duration(run.summary['seconds'])} of training"
    if directory.early_stop.is_file():
        said += f" ({directory.early_stop.read_text(encoding='utf-8').strip()})"
    return said


def _latest(run: RunRecord, directory: RunDirectory) -> dict[str, float]:
    if run.summary:
        return run.metrics
    latest: dict[str, float] = {}
    for row in surviving_rows(directory.metrics_csv):
        latest |= row
    return {name: latest[name] for name in METRICS if name in latest}


def _source(identity: Mapping[str, Any], directory: RunDirectory) -> str:
    commit = f"commit {identity['git_commit'][:12]}" if identity.get("git_commit") else "no commit"
    edited = " with changes" if identity.get("git_dirty") else ""
    patch = f" ({directory.diff_patch.name})" if directory.diff_patch.is_file() else ""
    digest = f", source {identity['source'][:8]}" if identity.get("source") else ""
    return f"textrnn {identity.get('version')}, {commit}{edited}{patch}{digest}"


def _patch(run: RunRecord) -> str | None:
    """Return the uncommitted changes of the code in short."""
    patch = RunDirectory.join(run.path).diff_patch
    if not patch.is_file():
        return None
    lines = patch.read_text(encoding="utf-8", errors="replace").splitlines()
    added, removed = (sum(line.startswith(sign) and not line.startswith(sign * 3) for line in lines) for sign in "+-")
    return f"{patch.name}: +{added} -{removed}"


def _size(path: Path) -> str:
    return told_bytes(folder_bytes(path))


def folder_bytes(path: Path) -> int:
    """Return the bytes of a folder's files; of those that are removed meanwhile, nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(f"{folder}/{name}").st_size
            except FileNotFoundError:
                continue
    return total


def told_bytes(size: int) -> str:
    """Return a size in words, such as "3.4 MB"."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} B"
