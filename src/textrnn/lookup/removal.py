"""Removing runs: which, in what order, and whole."""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.lookup.details import folder_bytes, unsent
from textrnn.lookup.records import RunRecord, places
from textrnn.tracking.run_directory import LOCK_NAME

PREFIX = ".removed-"
"""Begins the name of a folder that is being removed; nothing else reads it."""
_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([hdw])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    """A folder that may be removed: a run, or a sweep or multirun with all of its runs."""

    path: Path
    runs: Sequence[RunRecord]
    size: int
    """Bytes of its files."""
    unsent: int
    """Runs of which a part may be missing in W&B."""


def seconds_of(age: str) -> float:
    """Return the seconds in an age such as 30d, 12h or 2w.

    Raises:
        InputError: it is no age.
    """
    found = _AGE.fullmatch(age)
    if found is None:
        raise InputError(f"--older-than {age}: is no age; type hours, days or weeks, such as 12h, 30d or 2w.")
    return float(found[1]) * _UNITS[found[2]]


def last_change(path: Path) -> float:
    """Return when one of the run's own files last changed, in seconds since 1970."""
    times = [0.0]
    for name in ("run.json", "config.yaml", "metrics.csv", "summary.json", "train.log"):
        with contextlib.suppress(FileNotFoundError):
            times.append((path / name).stat().st_mtime)
    return max(times)


def removable(
    runs: Sequence[RunRecord], chosen: Sequence[RunRecord], within: Mapping[Path, Path], *, seconds: float, flat: bool
) -> tuple[list[Removable], list[str]]:
    """Return what may be removed, and a line about each chosen run or sweep that stays.

    Args:
        runs: All runs.
        chosen: Those that meet the conditions.
        within: The sweep or multirun of a run's path.
        seconds: The age from which a run is old.
        flat: Whether single runs of a sweep or multirun may be removed.
    """
    limit = time.time() - seconds
    old = {run.path for run in chosen if last_change(run.path) < limit}
    folders: dict[Path, list[RunRecord]] = {}
    for run in runs:
        folders.setdefault(run.path if flat else within.get(run.path, run.path), []).append(run)
    found, lines = [], []
    for path, members in folders.items():
        matching = [run for run in members if run.path in old]
        if not matching:
            continue
        running = [run for run in members if run.state == "running"]
        if running or FileLock(path / LOCK_NAME).is_held():
            lines.append(f"{path} stays: it is running")
        elif len(matching) < len(members):
            lines.append(
                f"{path} stays: {len(matching)} of its {len(members)} runs match; --flat removes single runs of it"
            )
        else:
            found.append(
                Removable(
                    path=path,
                    runs=members,
                    size=folder_bytes(path),
                    unsent=sum(unsent(run.path) for run in members),
                )
            )
    return found, lines


def remove(folder: Removable) -> bool:
    """Remove a folder whole: rename it, then delete it; return False if a process uses it by now.

    A killed removal leaves a folder whose name begins with `PREFIX`; the next one in the same place deletes it.
    """
    with contextlib.ExitStack() as held:
        for path in dict.fromkeys((folder.path, *(run.path for run in folder.runs))):
            lock = FileLock(path / LOCK_NAME, keep=True)
            if not lock.acquire(blocking=False):
                return False
            held.callback(lock.release)
        if {place.path for place in places(str(folder.path))} != {str(run.path) for run in folder.runs}:
            return False  # a job has begun in the meantime
        for leftover in folder.path.parent.glob(f"{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        doomed = folder.path.with_name(f"{PREFIX}{folder.path.name}-{secrets.token_hex(4)}")
        folder.path.rename(doomed)
        shutil.rmtree(doomed)
    return True
