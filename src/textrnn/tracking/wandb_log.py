"""`train.log` as the "Logs" of a W&B run: each line once, in order, however often the run is resumed.

The client's own capture of the console would contain the progress bar, and nothing that was printed before the W&B run
began. W&B appends the lines of a resumed run to those that it has, and says how many these are.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from textrnn.base.console import logged_to_file
from textrnn.base.files import write_atomically


class LogUpload(logging.Handler):
    """Sends what is appended to a log file, whenever a line is logged; its handler must be the older one."""

    def __init__(self, log: Path, *, known: int, counter: Path, send: Callable[[str], None]) -> None:
        """Skip the first `known` lines; `counter` is kept as the number of lines that were sent or known."""
        super().__init__()
        self._file = log.open(encoding="utf-8", errors="replace", newline="\n")
        self._counter, self._send = counter, send
        self._lines = sum(bool(self._file.readline()) for _ in range(known))
        self._loggers = logged_to_file()
        for logger in self._loggers:
            logger.addHandler(self)
        self.send_rest()

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record as it is in the file."""
        del record
        self.send_rest()

    def send_rest(self) -> None:
        """Send the lines that were appended since the last ones."""
        if text := self._file.read():
            self._lines += text.count("\n")
            self._send(text)
            write_atomically(self._counter, str(self._lines))

    def close(self) -> None:
        """Send the rest and end."""
        if not self._file.closed:
            for logger in self._loggers:
                logger.removeHandler(self)
            self.send_rest()
            self._file.close()
        super().close()
