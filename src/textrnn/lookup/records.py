"""Records of runs, read from their directories: one run, or all runs of a sweep, a multirun or any folder."""

import contextlib
import functools
import json
import os
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.tracking.metrics_csv import METRICS
from textrnn.tracking.run_directory import LOCK_NAME, RunDirectory
from textrnn.tracking.summary import read_summary

Kind = Literal["run", "sweep", "multirun", "folder"]
State = Literal["running", "killed", "finished", "stopped", "failed", "preempted", "interrupted", "damaged"]
"""`summary.json`'s status; without that file running, while a process holds the run's lock, or killed."""
SETS: dict[str, Kind] = {"sweep.yaml": "sweep", "jobs.json": "multirun"}
"""The file by which a folder of runs that belong together is known."""
PARTS = {"checkpoints", "config.yaml", "metrics.csv", "summary.json", "train.log"}
"""Two of these without `run.json` are a run's directory that was copied in part."""

Config = Mapping[str, Any]
"""A configuration with dotted keys, such as `model.hidden_size`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What a run's directory says about the run. Metrics that were not measured are missing."""

    path: Path
    """The run's directory, as a user would type it."""
    state: State
    identity: Mapping[str, Any]
    """Content of `run.json`."""
    config: Config
    summary: Mapping[str, Any]
    """Content of `summary.json`; empty before the run's end."""

    @property
    def name(self) -> str:
        """The run's display name."""
        return str(self.identity["name"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.identity["seed"])

    @property
    def metrics(self) -> dict[str, float]:
        """Final values of the metrics, by their names in `metrics.csv`."""
        return {name: float(self.summary[name]) for name in METRICS if name in self.summary}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSet:
    """Runs that belong together."""

    path: Path
    """The folder that was typed."""
    kind: Kind
    runs: Sequence[RunRecord]
    """In the order of their directories' names, numbers by value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a run was found."""

    path: str
    """The run's directory."""
    within: str | None
    """The outermost folder of a sweep or multirun that holds it."""
    damage: str = ""
    """Why it can't be a run that is whole, if that is known from the names of its files."""


def read_run(path: Path) -> RunRecord:
    """Read the record of the run in `path`.

    Raises:
        InputError: there is no run, or one of its files is damaged.
    """
    identity, config, summary = read_files(path)
    return RunRecord(path=path, state=state_of(path, summary), identity=identity, config=config, summary=summary)


def read_files(path: Path) -> tuple[dict[str, Any], ChainMap[str, Any], dict[str, Any]]:
    """Return `run.json`, `config.yaml` and `summary.json` of the run in `path`; the last is empty before its end.

    Raises:
        InputError: there is no run, or one of these files is damaged.
    """
    directory = RunDirectory.join(path)
    try:
        identity = json.loads(directory.run_json.read_text(encoding="utf-8"))
        config = read_config(directory.config_yaml.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a run's directory: it has no {Path(error.filename).name}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its run.json or config.yaml can't be read ({reason}).") from error
    if not isinstance(identity, dict) or not {"name", "seed"} <= identity.keys() or "seed" not in config:
        raise InputError(f"{path}: its run.json or config.yaml was not written by textrnn, or not copied whole.")
    try:
        return identity, config, read_summary(directory.summary_json)
    except FileNotFoundError:
        return identity, config, {}
    except OSError as error:
        raise InputError(f"{path}: its summary.json can't be read ({error.strerror}).") from error


def state_of(path: Path, summary: Mapping[str, Any]) -> State:
    """Return a run's state now; without a summary it depends on the run's lock."""
    if summary:
        state: State = summary["status"]
        return state
    return "running" if FileLock(path / LOCK_NAME).is_held() else "killed"


def read_config(text: str) -> ChainMap[str, Any]:
    """Return the configuration in the text of a `config.yaml`, a mapping for each section; empty if it is not one.

    Most lines are the same in many runs, and each is parsed once: parsing takes longer than reading the file.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    try:
        return ChainMap(*(_section(part) for part in reversed(_parts(text))))
    except (ValueError, yaml.YAMLError):  # written by hand: YAML that a part alone doesn't show
        values = yaml.load(text, Loader=yaml.CSafeLoader)
        return ChainMap(dict(dotted(values)) if isinstance(values, dict) else {})


def _parts(text: str) -> list[str]:
    """Return the text of each key with its value, in order; a list's lines may begin where their key does."""
    return [part for part in re.split(r"^(?=[^\s-])", text, flags=re.MULTILINE) if part]


@functools.cache
def _section(text: str) -> dict[str, Any]:
    """Return the values of one key, with dotted keys."""
    key, colon, values = text.partition(":\n")
    if colon and "\n" not in key and all(line.startswith("  ") for line in values.splitlines()):
        inner = values[2:].replace("\n  ", "\n")
        return {f"{key}.{name}": value for part in _parts(inner) for name, value in _section(part).items()}
    found = yaml.load(text, Loader=yaml.CSafeLoader)
    if not isinstance(found, dict):
        raise ValueError(f"{text!r} is not a key with its value")
    return dict(dotted(found))


def kind_of(path: Path) -> Kind:
    """Return what a folder holds: a run, a sweep, a multirun or any runs."""
    if (path / "run.json").is_file():
        return "run"
    return next((kind for name, kind in SETS.items() if (path / name).is_file()), "folder")


def run_paths(path: Path) -> Iterator[Path]:
    """Yield the directories of all runs at and below `path`, in the order of their names, numbers by value."""
    return (Path(place.path) for place in places(str(path)) if not place.damage)


def places(folder: str, *, whole: bool = True) -> Iterator[Place]:
    """Yield where there are runs at and below a folder, in the order of their names, numbers by value.

    `whole`: whether the runs are within the folder itself where it is a sweep or multirun.

    A linked folder is searched only if it is elsewhere: a link within the folder would repeat its runs.
    """
    return _places(folder, None, os.path.realpath(folder), is_open=not whole)


def _places(folder: str, within: str | None, top: str, *, is_open: bool = False) -> Iterator[Place]:
    if os.path.lexists(f"{folder}/run.json"):
        yield Place(path=folder, within=within)
        return
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except FileNotFoundError:  # it was removed in the meantime
        return
    except OSError as error:
        yield Place(path=folder, within=within, damage=f"{folder} can't be read ({error.strerror}).")
        return
    names = {entry.name for entry in entries}
    if len(names & PARTS) > 1:
        yield Place(path=folder, within=within, damage=f"{folder} is not a run's directory: it has no run.json.")
        return
    if within is None and not is_open and names & SETS.keys():
        within = folder
    folders = [entry.name for entry in entries if not entry.name.startswith(".") and _is_searched(entry, top)]
    for name in sorted(folders, key=lambda name: (not name.isdigit(), name.zfill(20))):
        yield from _places(os.path.join(folder, name), within, top)  # noqa: PTH118 - quicker


def _is_searched(entry: os.DirEntry[str], top: str) -> bool:
    with contextlib.suppress(OSError):  # a link that leads to itself
        if not entry.is_dir():
            return False
        if not entry.is_symlink():
            return True
        target = f"{os.path.realpath(entry.path)}/"
        return not target.startswith(f"{top}/") and not f"{top}/".startswith(target)
    return False


def read_set(typed: str) -> RunSet:
    """Read the runs that a path names: a run, a sweep, a multirun or a folder with any of these.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged one.
    """
    path = folder_of(typed)
    runs = [read_run(found) for found in run_paths(path)]
    if not runs:
        raise InputError(f"{typed}: there is no run in this folder.")
    return RunSet(path=path, kind=kind_of(path), runs=runs)


def folder_of(typed: str) -> Path:
    """Return the path of a folder that was typed.

    Raises:
        InputError: there is no such folder.
    """
    path = Path(typed)
    if not path.is_dir():
        raise InputError(f"{typed}: there is no such folder; type a run's directory, or a folder with runs.")
    return path


def sweep_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the metrics that a sweep's `sweep.yaml` declares, the one that ranks first; none for another folder.

    Raises:
        InputError: the file is damaged.
    """
    if kind_of(path) != "sweep":
        return []
    file = path / "sweep.yaml"
    try:
        sweep = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        declared = sweep.get("metrics") or [sweep.get("metric") or {}]
        return [{**metric, "name": str(metric["name"])} for metric in declared if "name" in metric]
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{file} can't be read ({' '.join(str(error).split())}).") from error


def dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested configuration with their dotted keys."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
