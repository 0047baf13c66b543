"""`metrics.csv`: one row per global step, whole after every write, repairable after a kill."""

import contextlib
import csv
import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically

PREFIXES = {"train": "train", "validation": "val", "test": "test"}
"""How the names of a split's metrics and charts begin."""
PERPLEXITIES = ("perplexity", "perplexity_forward", "perplexity_backward")
"""Of a language model: of all predictions, and with two directions of each."""
METRICS = (
    "train/loss",
    "train/accuracy",
    "train/virtual_adversarial",
    "train/grad_norm",
    "train/tokens_per_second",
    "train/padding",
    "lr",
    "val/loss",
    "val/accuracy",
    "val/f1",
    "val/auroc",
    *(f"val/{name}" for name in PERPLEXITIES),
    "test/loss",
    "test/accuracy",
    "test/f1",
    "test/auroc",
)
"""All metrics that a run may log. Any other name is an error, not a new column."""
_LARGEST = ("accuracy", "f1", "auroc", "tokens_per_second")
BEST = dict.fromkeys(("loss", *PERPLEXITIES), "min") | dict.fromkeys(_LARGEST, "max")
"""Whether the smallest or the largest value is the best, by the last part of a metric's name; others have no best."""
COLUMNS = ("step", "epoch", *METRICS)
HEADER = (",".join(COLUMNS) + "\n").encode()

Row = dict[str, float | int]
"""One row: `step`, `epoch` (from 0) and the metrics that were logged at this step."""


class MetricsFile:
    """Writer of `metrics.csv`. Values of one step share a row; an existing file is continued.

    A row is in the file (handed to the operating system) when `write` returns, so a killed process loses at most the
    row that it was writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not path.stat().st_size:
            self._write_at(0, HEADER)
        rows = read_metrics(path)
        self._row: Row = rows[-1] if rows else {}
        self._end = path.stat().st_size
        self._row_start = self._end - (len(_line(self._row)) if rows else 0)

    def write(self, step: int, epoch: int, values: Mapping[str, float]) -> Row:
        """Put `values` into the row of `step` and return it; an existing row keeps its epoch.

        Raises `ValueError` for a metric that is not in `METRICS` and for a step before the last row's.
        """
        check_names(values)
        last_step = self._row.get("step", -1)
        if step < last_step:
            raise ValueError(f"metrics of step {step} came after those of step {last_step}")
        if step > last_step:
            self._row = {"step": step, "epoch": epoch}
            self._row_start = self._end
        self._row.update({name: float(value) for name, value in values.items()})
        line = _line(self._row)
        self._write_at(self._row_start, line)
        self._end = self._row_start + len(line)
        return self._row

    @property
    def last_epoch(self) -> int:
        """The last row's epoch; 0 without rows."""
        return int(self._row.get("epoch", 0))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write_at(self, offset: int, line: bytes) -> None:
        # One system call per line, which a kill can't interrupt. The last row is overwritten in place.
        try:
            written = os.pwrite(self._file, line, offset)
        except OSError as error:
            error.filename = str(self._path)
            raise
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        os.ftruncate(self._file, offset + len(line))


def best_is(metric: str) -> str:
    """Return "max" or "min", which of the values of a metric in `BEST` is the best."""
    return BEST[metric.rpartition("/")[2]]


def check_names(values: Mapping[str, float]) -> None:
    """Raise `ValueError` if a name is not in `METRICS`."""
    if unknown := [name for name in values if name not in METRICS]:
        raise ValueError(f"unknown metrics {', '.join(unknown)}: a metric needs its column in tracking/metrics.py")


def read_metrics(path: Path) -> list[Row]:
    """Return the rows of a `metrics.csv`, in the order of steps, each without its empty cells.

    Raises `InputError` for another file, or for a torn last line.
    """
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    if not _is_header(header) or lines[-1:] != [""]:
        raise InputError(f"{str(path)!r} is not a metrics.csv that textrnn wrote whole.")
    return [_parse(path, header, line) for line in lines[:-1]]


def _is_header(line: str) -> bool:
    """Return whether these are our columns; earlier versions had fewer metrics."""
    columns = line.split(",")
    return columns[:2] == ["step", "epoch"] and columns == [name for name in COLUMNS if name in columns]


def repair(path: Path, last_step: int) -> None:
    """Reset the `metrics.csv` of a killed run to `last_step`, the step of the checkpoint that it resumes from.

    Rows of later steps are removed, as they will be logged again, and so is a torn last line. A missing file is not
    made.
    """
    if not path.exists():
        return
    repaired = HEADER + b"".join(_line(row) for row in surviving_rows(path) if row["step"] <= last_step)
    if repaired != path.read_bytes():
        write_atomically(path, repaired)


def surviving_rows(path: Path) -> list[Row]:
    """Return the rows of the `metrics.csv` of a run that may have been killed, without a torn last line.

    A row that overwrote a longer one may also leave the rest of that one as a last line.

    Raises:
        InputError: for other columns, and for any other line that is not a row.
    """
    content = path.read_bytes() if path.exists() else b""
    header, *lines = content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines() or [""]
    if lines and not _is_header(header):
        raise InputError(f"{str(path)!r} holds a line that is no row of metrics: {header.strip()!r}.")
    rows = [_parse(path, header, line) for line in lines[:-1]]
    with contextlib.suppress(InputError):
        rows += [_parse(path, header, line) for line in lines[-1:]]
    return rows


def _parse(path: Path, header: str, line: str) -> Row:
    cells = next(csv.reader([line]))
    try:
        row: Row = {name: float(cell) for name, cell in zip(header.split(","), cells, strict=True) if cell}
        return {**row, "step": int(cells[0]), "epoch": int(cells[1])}
    except ValueError as error:
        raise InputError(f"{str(path)!r} holds a line that is no row of metrics: {line.strip()!r}.") from error


def _line(row: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerow(row)
    return text.getvalue().encode()
