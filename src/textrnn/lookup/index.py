"""An index of the runs below a folder: what their files say, read again only where a file has changed.

It is one file in the user's cache, may be removed at any time, and is made again. A run's entry counts while each of
the run's files has the time and the size that it had when it was read.
"""

import hashlib
import json
import os
import time
from collections import ChainMap
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import user_cache, write_atomically
from textrnn.lookup.records import Place, RunRecord, folder_of, places, read_files, state_of

FORMAT = 1
"""Increased when the index's content changes; another index is not read."""
FILES = ("run.json", "config.yaml", "summary.json")
MANY = 1000
"""Runs that are read in seconds, which a line explains."""
SETTLED = 2.0
"""Seconds after which a file's time and size tell its next change; some disks keep no finer time."""

Stamp = list[list[int] | None]
"""Time in nanoseconds and bytes of each of a run's files; None for a missing one."""


@dataclass(kw_only=True, slots=True)
class Found:
    """The runs at and below folders."""

    runs: list[RunRecord] = field(default_factory=list)
    """In the order of the folders, and within one of the names."""
    damaged: list[RunRecord] = field(default_factory=list)
    """Runs that can't be read; their summary has the reason as `damage`."""
    within: dict[Path, Path] = field(default_factory=dict)
    """The sweep or multirun of a run's path, for runs that are part of one."""


def find_runs(folders: Sequence[str], *, whole: bool = True) -> Found:
    """Read the records of all runs at and below the folders, each run once.

    `whole`: whether runs are within a folder that was typed, where that is a sweep or multirun.

    Raises:
        InputError: there is no such folder, or no run in all of them.
    """
    found, seen = Found(), set[str]()
    for typed in folders:
        path = folder_of(typed)
        index = Index(path)
        for place in places(str(path), whole=whole):
            real = os.path.realpath(place.path) if len(folders) > 1 else place.path
            if real not in seen:
                seen.add(real)
                _add(found, place, index)
        index.write()
    if not found.runs and not found.damaged:
        raise InputError(f"{', '.join(folders)}: there is no run in this folder.")
    return found


def _add(found: Found, place: Place, index: "Index") -> None:
    path = Path(place.path)
    if place.within is not None:
        found.within[path] = Path(place.within)
    try:
        if place.damage:
            raise InputError(place.damage)
        found.runs.append(index.read(place.path))
    except InputError as error:
        if path.exists():  # otherwise it was removed in the meantime
            reason = str(error).removeprefix(f"{path}").lstrip(": ")
            found.damaged.append(
                RunRecord(path=path, state="damaged", identity={}, config={}, summary={"damage": reason})
            )


class Index:
    """The index of the runs below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._start = len(os.path.join(folder, ""))  # noqa: PTH118
        name = hashlib.sha256(self._folder.encode()).hexdigest()[:16]
        self.path = user_cache() / "runs" / f"{name}.json"
        self._sections, self._old = _content(self.path)
        self._new: dict[str, tuple[Stamp, dict[str, Any], ChainMap[str, Any], dict[str, Any]]] = {}
        self._read = 0

    def read(self, found: str) -> RunRecord:
        """Return the record of the run in `found`, from its files where they have changed since they were indexed.

        Raises:
            InputError: there is no run, or one of its files is damaged.
        """
        stamp, key, path = _stamp(found), found[self._start :], Path(found)
        old = self._old.get(key)
        if old is not None and old[0] == stamp:
            _, identity, numbers, summary = old
            config = ChainMap(*(self._sections[number] for number in numbers))
        else:
            identity, config, summary = read_files(path)
            self._read += 1
            if self._read == MANY:
                LOGGER.info(f"reading new runs below {self._folder}; the next call will find them in an index")
        self._new[key] = (stamp, identity, config, summary)
        return RunRecord(path=path, state=state_of(path, summary), identity=identity, config=config, summary=summary)

    def write(self) -> None:
        """Write the index if something has changed."""
        if not self._read and self._new.keys() == self._old.keys():
            return
        numbers: dict[int, int] = {}
        unique: list[MutableMapping[str, Any]] = []
        runs: dict[str, Any] = {}
        settled = time.time_ns() - SETTLED * 1e9
        for key, (stamp, identity, config, summary) in self._new.items():
            if any(file is not None and file[0] > settled for file in stamp):
                continue
            for section in config.maps:
                if numbers.setdefault(id(section), len(unique)) == len(unique):
                    unique.append(section)
            runs[key] = (stamp, identity, [numbers[id(section)] for section in config.maps], summary)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps({"format": FORMAT, "sections": unique, "runs": runs}))
        except OSError as error:
            LOGGER.warning(f"{self.path} can't be written ({error.strerror}), so all runs are read again each time")


def _content(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the sections and the runs of an index; none if there is no index, or a damaged one."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] == FORMAT:
            return content["sections"], content["runs"]
    except (OSError, ValueError, TypeError, KeyError):  # it is made again
        pass
    return [], {}


def _stamp(path: str) -> Stamp:
    return list(_stamps(f"{path}/{name}" for name in FILES))


def _stamps(files: Iterable[str]) -> Iterable[list[int] | None]:
    for file in files:
        try:
            found = os.stat(file)  # noqa: PTH116 - of ten thousand runs; Path's takes twice as long
        except OSError:
            yield None
        else:
            yield [found.st_mtime_ns, found.st_size]
