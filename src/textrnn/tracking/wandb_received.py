"""What W&B's server has of a run that has ended, asked of the server, against what the run logged.

The client ends a run as uploaded whatever became of it: its file stream stops for good at the first answer 401, 403
or 404 (wandb/wandb: core/internal/filestream/retry_policy.go), and an artifact of which a file was refused stays
pending.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrnn.base.process import in_time
from textrnn.tracking.wandb_internals import shown_charts

if TYPE_CHECKING:
    from wandb.apis.public import Api

ANSWER_TIMEOUT = 30.0
"""Seconds in which the server must say what it has; on a busy machine the client alone needs ten."""
SETTLING = 10.0
"""Seconds within which what has been uploaded must be seen: the server takes rows in first and counts them later."""
NAMED = 3
"""Missing files or artifacts that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """What a run has logged."""

    path: str
    """ENTITY/PROJECT/ID."""
    steps: Sequence[int]
    """The steps of its rows, in order."""
    summary: Mapping[str, Any]
    """Its final values."""
    files: Mapping[str, int]
    """Bytes of its files, by name."""
    outputs: Mapping[str, str | None]
    """By name, the digests of the artifacts that it made; None for a table, whose digest only the client knows."""
    inputs: frozenset[str]
    """The names of those that it used."""
    tags: frozenset[str]
    """The tags that it gave itself."""
    charts: frozenset[str]
    """The names of its charts, whose descriptions are in W&B's config of the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What the server has of a run."""

    last_step: int
    """The step of its last row; -1 without any."""
    summary: Mapping[str, Any]
    running: bool
    """Whether it has not been told that the run has ended."""
    files: Mapping[str, int]
    """Bytes by name."""
    outputs: Mapping[str, frozenset[str]]
    """By name, the digests of the versions that are whole."""
    inputs: frozenset[str]
    tags: frozenset[str]
    charts: frozenset[str]

    def lacks(self, logged: Logged) -> list[str]:
        """Return what is missing, each kind in words."""
        rows = sum(step > self.last_step for step in logged.steps)
        known = [name for name in logged.summary if not _same(logged.summary[name], self.summary.get(name))]
        files = [name for name, size in logged.files.items() if size and not self.files.get(name)]
        artifacts = [
            name
            for name, digest in logged.outputs.items()
            if name not in self.outputs or (digest is not None and digest not in self.outputs[name])
        ]
        artifacts += sorted(logged.inputs - self.inputs)
        missing = [
            f"{rows:,} of {len(logged.steps):,} rows" if rows else "",
            "the summary" if known else "",
            "the end of the run" if self.running else "",
            _listed("file", files),
            _listed("artifact", artifacts),
            _listed("tag", logged.tags - self.tags),
            _listed("chart", logged.charts - self.charts),
        ]
        return [what for what in missing if what]


def missing(logged: Logged) -> list[str]:
    """Ask the server until it has everything, for at most `SETTLING` seconds; return what is missing.

    Raises:
        answer_errors(): it does not answer, or refuses to.
    """
    deadline = time.monotonic() + SETTLING
    while True:
        lacks = received(logged.path).lacks(logged)
        if not lacks or time.monotonic() > deadline:
            return lacks
        time.sleep(min(1.0, SETTLING / 4))


def received(path: str) -> Received:
    """Ask the server what it has of the run ENTITY/PROJECT/ID.

    Raises:
        answer_errors(): it does not answer, or refuses to.
    """
    from wandb.apis.public import Api  # a second of work on an idle machine, which is not the server's

    return in_time(lambda: _ask(Api(timeout=math.ceil(ANSWER_TIMEOUT)), path), ANSWER_TIMEOUT)


def _ask(api: "Api", path: str) -> Received:
    run = api.run(path)
    outputs: dict[str, set[str]] = {}
    for artifact in run.logged_artifacts():
        if artifact.state == "COMMITTED":
            outputs.setdefault(_collection(artifact), set()).add(artifact.digest)
    return Received(
        last_step=run.lastHistoryStep,
        summary=dict(run.summary_metrics),
        running=run.state in ("running", "pending"),
        files={file.name: int(file.size) for file in run.files()},
        outputs={name: frozenset(digests) for name, digests in outputs.items()},
        inputs=frozenset(map(_collection, run.used_artifacts())),
        tags=frozenset(run.tags or ()),
        charts=shown_charts(run.rawconfig),
    )


def local_files(folder: Path, ignored: Iterable[str] = ()) -> dict[str, int]:
    """Return the bytes of each file that the client uploads from its folder `files`, by name.

    `ignored` are the user's patterns of files that the client leaves out (WANDB_IGNORE_GLOBS).
    """
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = (name for name in found if not any(fnmatch(name, pattern) for pattern in ignored))
    return {name: found[name].stat().st_size for name in kept}


def _collection(artifact: Any) -> str:
    return str(artifact.name).partition(":")[0]


def _same(ours: object, theirs: object) -> bool:
    """Return whether W&B has our value; NaN and infinities are texts there, as JSON can't hold them."""
    if isinstance(ours, float) and isinstance(theirs, str | float | int):
        return str(ours).lower()[:3] == str(theirs).lower()[:3] if not math.isfinite(ours) else ours == theirs
    return ours == theirs


def _listed(kind: str, names: Iterable[str]) -> str:
    every = sorted(names)
    if not every:
        return ""
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return f"{len(every)} {kind}{'s' if len(every) > 1 else ''} ({', '.join(every[:NAMED])}{more})"
