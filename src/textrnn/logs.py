"""Where the program's lines go: stderr for people, `train.log` for the record."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

LOGGER = logging.getLogger("textrnn")


def log_to_console(level: int = logging.INFO) -> None:
    """Shows the program's lines on stderr, bare."""
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
    """Leaves Lightning's chatter out, once it is imported: its import sets its level."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 walks batches with a helper that torch 2.13 deprecates; nothing that a user could change.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
    # A resumed run goes on in its own directory, and srun is not how a run on a login node starts.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty", UserWarning)
    warnings.filterwarnings("ignore", "The `srun` command is available", UserWarning)
    # An epoch may be shorter than the interval of logging; its validation is logged all the same.
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging", UserWarning)


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
