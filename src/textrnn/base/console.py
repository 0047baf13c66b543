"""Log lines on stderr and in `train.log`, tables, progress of long work, durations."""

import contextlib
import errno
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from typing_extensions import override

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn
    from rich.table import Table
    from typing_extensions import Buffer

LOGGER = logging.getLogger("textrnn")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time: while a bar is shown, Rich's, which puts lines above the bar."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


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
    for shown in [handler for handler in LOGGER.handlers if isinstance(handler, _StderrHandler)]:
        LOGGER.removeHandler(shown)
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def quiet_lightning() -> None:
    """Silence Lightning's own messages. Call this after importing Lightning, which sets its log level."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 walks batches with a helper that torch 2.13 deprecates; users can't change that.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
    # So does its gathering of metrics from several processes.
    warnings.filterwarnings("ignore", "torch.distributed.nn.functional.all_gather is deprecated", FutureWarning)
    # Short names such as bf16 are allowed values of trainer.precision.
    warnings.filterwarnings("ignore", "`precision=.*` is supported for historical reasons", UserWarning)
    # A resumed run continues in its own directory; a run on a login node is not started by srun.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty", UserWarning)
    warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)
    # A GPU is left unused because the user has typed so, or a line of ours names the key for it.
    warnings.filterwarnings("ignore", "GPU available but not used", UserWarning)
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


def logged_to_file() -> tuple[logging.Logger, ...]:
    """Return the loggers whose lines are in a run's log."""
    return LOGGER, logging.getLogger("pytorch_lightning")


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Inside, also write log lines to `path`, with time and level; warnings of libraries become log lines."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger in logged_to_file():
        logger.addHandler(handler)
    show, warnings.showwarning = warnings.showwarning, _log_warning
    try:
        yield
    finally:
        warnings.showwarning = show
        for logger in logged_to_file():
            logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # of a full disk, which has been reported
            handler.close()


def _log_warning(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
    """Log a warning in one line, with the library in place of the path of its file."""
    library = filename.rpartition("site-packages/")[2].partition("/")[0] or Path(filename).stem
    LOGGER.warning(f"warning of {library}: {' '.join(str(message).split())} ({category.__name__})")


SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Progress of long work: a bar on a terminal, else a line every few seconds.

    Args:
        verb: What is done to each of the `things`, such as "read" or "encoded".
        total: Number of things, if known.
        things: What is counted.
        rate: Whether the number of things per second is shown too.
    """

    def __init__(self, verb: str, total: int | None, things: str = "reviews", *, rate: bool = False) -> None:
        self._verb = verb
        self._rate = rate
        self._began = time.monotonic()
        self._things = things
        self._total = total
        self._count = 0
        self._last_line = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            from rich.progress import TextColumn, TimeElapsedColumn

            self._bar = terminal_bar(TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
            self._task = self._bar.add_task(f"{things} {verb}", total=total, rate="")

    def advance(self, count: int) -> None:
        """Count `count` more as done."""
        self._count += count
        rate = f"{self._count / max(time.monotonic() - self._began, 1e-3):,.0f}/s" if self._rate else ""
        if self._bar is not None:
            self._bar.update(self._task, advance=count, rate=rate)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of_total = f" of {self._total:,}" if self._total is not None else ""
            LOGGER.info(f"{self._verb} {self._count:,}{of_total} {self._things}{f' ({rate})' if rate else ''} ...")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def terminal_bar(*last: "ProgressColumn", auto_refresh: bool = True) -> "Bar":
    """Return a bar on stderr of one line, which disappears at its end; what is printed meanwhile appears above it.

    Args:
        last: Columns after description, bar and count.
        auto_refresh: Whether a thread draws it ten times a second.
    """
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=None), bars.MofNCompleteColumn(), *last)
    return bars.Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=auto_refresh,
        transient=True,
        expand=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file or a pipe is not the terminal's
    )


def print_table(*tables: "Table") -> None:
    """Print the first of the tables that the terminal shows without a broken cell, else the last.

    Columns marked `no_wrap` are not to be folded, the others between words. Without a terminal, lines are as long as
    the table.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 1000
    console.print(next((table for table in tables if _width(console, table) <= console.width), tables[-1]))


def _width(console: "Console", table: "Table") -> int:
    """Return the columns that a table needs."""
    from rich.measure import Measurement

    needed = 0
    for column in table.columns:
        cells = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        needed += max(cell.maximum if column.no_wrap else cell.minimum for cell in cells)
    return needed + 3 * (len(table.columns) - 1) + 2  # a space on both sides of each cell, and a line between two


def duration(seconds: float) -> str:
    """Format seconds: `42 s`, `1 min 50 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
