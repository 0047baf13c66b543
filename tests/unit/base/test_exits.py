"""Exit codes: what a full disk brings about is reported as a full disk."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from textrnn.base.errors import InputError
from textrnn.base.exits import CRASH, WRONG_INPUT, exit_code

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/metrics.csv")


@contextmanager
def recording() -> Iterator[None]:
    try:
        yield
    finally:
        raise InputError("run/metrics.csv is not whole.")


def test_a_full_disk_comes_first(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with exit_code() as outcome, recording():
        raise FULL
    assert outcome.code == CRASH
    full = "error: No space left on device (run/metrics.csv): make room on that disk"
    assert capsys.readouterr().err == f"{full}\n"
    with exit_code(logging.getLogger("a run's")) as outcome, recording():
        raise FULL
    assert outcome.code == CRASH
    assert caplog.messages == [f"{full}, then the same command with resume=auto continues"]


def test_what_already_names_the_disk_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_code() as outcome:
        try:
            raise FULL
        except OSError as error:
            raise InputError("data.cache_dir: cannot write") from error
    assert outcome.code == WRONG_INPUT
    assert capsys.readouterr().err == "error: data.cache_dir: cannot write\n"
