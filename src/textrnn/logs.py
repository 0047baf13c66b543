"""Where the program's lines go: stderr for people, `train.log` for the record."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

LOGGER = logging.getLogger("textrnn")


def log_to_console(level: int = logging.INFO) -> None:
    """Shows the program's lines on stderr, bare; Lightning's own chatter only from warnings on."""
    for handler in list(LOGGER.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            LOGGER.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Also writes the program's lines and Python's warnings to `path`, with time and level, while inside."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
        handler.close()
