"""Log lines on stderr and in `train.log`, progress of long work, durations."""

import contextlib
import errno
import io
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import rich.progress
    from typing_extensions import Buffer

LOGGER = logging.getLogger("textrnn")


class _Terminal(io.FileIO):
    """A terminal that may be closed: what is written to it afterwards is lost, and no error."""

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return memoryview(data).nbytes


def outlive_terminal() -> None:
    """Keep output from failing when its terminal is closed: SIGHUP, which says so, ends a run after its batch."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.isatty():
            raw = _Terminal(stream.fileno(), "w", closefd=False)
            lasting = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
            )
            setattr(sys, name, lasting)


def log_to_console(level: int = logging.INFO) -> None:
    """Show the program's log lines on stderr, without time and level."""
    for handler in list(LOGGER.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            LOGGER.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def quiet_lightning() -> None:
    """Silence Lightning's own messages; to call after its import, which sets its log level."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 walks batches with a helper that torch 2.13 deprecates; nothing that a user could change.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
    # A resumed run continues in its own directory; a run on a login node is not started by srun.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty", UserWarning)
    warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)
    # An epoch may be shorter than the logging interval; its validation is logged anyway.
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging", UserWarning)


class _LogFile(logging.FileHandler):
    """A log that reports once that it can't be written, as on a full disk."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            print(f"{self.baseFilename} can't be written ({error.strerror})", file=sys.stderr)


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Also write log lines and Python's warnings to `path`, with time and level, while inside."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    warnings_logger = logging.getLogger("py.warnings")
    loggers = (LOGGER, warnings_logger, logging.getLogger("pytorch_lightning"))
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # of a full disk, which has been reported
            handler.close()


SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Progress of long work: a bar on a terminal, else a line every few seconds.

    Args:
        verb: What is done to each of the `things`, such as "read" or "encoded".
        total: Number of things, if known.
        things: What is counted.
    """

    def __init__(self, verb: str, total: int | None, things: str = "reviews") -> None:
        self._verb = verb
        self._things = things
        self._total = total
        self._count = 0
        self._last_line = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        if sys.stderr.isatty():
            from rich import progress as bars
            from rich.console import Console

            columns = (
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.MofNCompleteColumn(),
                bars.TimeElapsedColumn(),
            )
            self._bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(f"{things} {verb}", total=total)

    def advance(self, count: int) -> None:
        """Count `count` more as done."""
        self._count += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of_total = f" of {self._total:,}" if self._total is not None else ""
            LOGGER.info(f"{self._verb} {self._count:,}{of_total} {self._things} ...")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """Format seconds: `42 s`, `1 min 50 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
