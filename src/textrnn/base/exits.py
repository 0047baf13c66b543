"""Exit codes, and the one function that turns the end of a command into one of them."""

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from textrnn.base.errors import InputError, RankLost, RefusedElsewhere
from textrnn.base.signals import Preempted

DONE = 0
CRASH = 1
"""A defect; its traceback is in `train.log`."""
WRONG_INPUT = 2
"""One sentence on stderr says what to type instead."""
PREEMPTED = 75
"""The run is pre-empted; the same command resumes it (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
"""Ctrl-C."""


FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk without room."""


@dataclass(slots=True)
class Outcome:
    """How the commands inside `exit_code` ended."""

    code: int = DONE


@contextlib.contextmanager
def exit_code(log: logging.Logger | None = None) -> Iterator[Outcome]:
    """Turn any exception from the commands inside into an exit code and a line on stderr.

    Args:
        log: A run's logger. A defect is logged with its traceback; wrong input is raised again, because the run
            directory has to be released first. None: Python prints a defect's traceback and exits with 1.
    """
    outcome = Outcome()
    say = _print if log is None else log.warning
    try:
        with _full_disk_first():
            yield outcome
    except _DiskFullError as error:
        say(f"error: {error}" if log is None else f"error: {error}, then the same command with resume=auto continues")
        outcome.code = CRASH
    except InputError as error:
        if log is not None:
            raise
        if not isinstance(error, RefusedElsewhere):
            say(f"error: {error}")
        outcome.code = WRONG_INPUT
    except RankLost as error:
        say(f"error: {error}" if log is None else f"{error}; the same command with resume=auto continues")
        outcome.code = CRASH
    except Preempted:
        if log is None:
            say("pre-empted before the run began")
        outcome.code = PREEMPTED
    except KeyboardInterrupt:
        if log is None:
            say("interrupted")
        outcome.code = INTERRUPTED
    except BrokenPipeError:
        if log is not None:
            raise
        # The reader of our output, such as head, has closed it.
        _discard_output()
        outcome.code = CRASH
    except OSError as error:
        if log is not None or not _is_of_output(error):
            raise
        _discard_output()
        say(f"error: the output can't be written ({error.strerror}); send it elsewhere.")
        outcome.code = WRONG_INPUT
    except Exception:
        if log is None:
            raise
        # Any other exception is a defect of ours or of a library.
        log.exception("the run crashed")
        outcome.code = CRASH


class _DiskFullError(Exception):
    """A file can't be written."""


@contextlib.contextmanager
def _full_disk_first() -> Iterator[None]:
    """Raise a full disk's error in place of the errors that it caused, such as that of a damaged file.

    Raises:
        _DiskFullError: in its place.
    """
    try:
        yield
    except Exception as last:
        error: BaseException | None = last
        while error is not None:
            if isinstance(error, OSError) and error.errno in FULL and not _is_of_output(error):
                file = "" if error.filename is None else f" ({error.filename})"
                raise _DiskFullError(f"{error.strerror}{file}: make room on that disk") from last
            error = None if error.__suppress_context__ else error.__context__
        raise


def _is_of_output(error: OSError) -> bool:
    """Return whether it is stdout that can't be written; only another character shows that."""
    if error.errno not in (*FULL, errno.EFBIG, errno.EIO):
        return False
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Send stdout nowhere: Python would fail again when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def escape_what_stdout_lacks() -> None:
    """Print characters that the terminal can't encode as escapes, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _print(line: str) -> None:
    print(line, file=sys.stderr)
