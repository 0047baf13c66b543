"""How far something that takes a while is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

log = logging.getLogger("textrnn")

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts `things`; `verb` is what was done to them ("read", "encoded"), `total` is their number if known."""

    def __init__(self, verb: str, total: int | None, things: str = "reviews") -> None:
        self._verb = verb
        self._things = things
        self._total = total
        self._count = 0
        self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(f"{things} {verb}", total=total)

    def advance(self, count: int) -> None:
        """Report that `count` more are done."""
        self._count += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of_total = f" of {self._total:,}" if self._total is not None else ""
            log.info(f"{self._verb} {self._count:,}{of_total} {self._things} ...")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
