"""Exit codes, and the one place that turns every way a command can end into one of them."""

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
"""The machine is needed elsewhere; the same command continues (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
"""Ctrl-C."""


FULL = (errno.ENOSPC, errno.EDQUOT)


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
        # The reader of our output, such as head, has closed it; Python would fail again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        outcome.code = CRASH
    except Exception:
        if log is None:
            raise
        # Whatever comes here is a defect of ours or of a library.
        log.exception("the run crashed")
        outcome.code = CRASH


class _DiskFullError(Exception):
    """A file can't be written."""


@contextlib.contextmanager
def _full_disk_first() -> Iterator[None]:
    """Raise a full disk's error in place of those that it brought about, such as that of a file that is not whole.

    Raises:
        _DiskFullError: in its place.
    """
    try:
        yield
    except Exception as last:
        error: BaseException | None = last
        while error is not None:
            if isinstance(error, OSError) and error.errno in FULL:
                file = "" if error.filename is None else f" ({error.filename})"
                raise _DiskFullError(f"{error.strerror}{file}: make room on that disk") from last
            error = None if error.__suppress_context__ else error.__context__
        raise


def escape_what_stdout_lacks() -> None:
    """Print characters that the terminal's encoding lacks as escapes, so that they do not end the program."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _print(line: str) -> None:
    print(line, file=sys.stderr)
