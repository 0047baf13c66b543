"""Lines for people: seconds, a terminal that is closed, a log on a full disk."""

import os
import pty
import sys
import warnings
from pathlib import Path

import pytest

from textrnn.base.console import LOGGER, _log_warning, duration, log_to_file, outlive_terminal


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (110, "1 min 50 s"), (3599.9, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_output_to_a_closed_terminal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        outlive_terminal()
        print("seen")
        assert os.read(ours, 100) == b"seen\r\n"
        os.close(ours)
        print("lost", flush=True)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(theirs, b"lost")


def test_a_librarys_warning_is_one_line_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), log_to_file(tmp_path / "train.log"):
        warnings.simplefilter("default")
        warnings.warn_explicit("too\n  slow", FutureWarning, "/x/lib/site-packages/torch/nn/y.py", 7)
    assert "WARNING warning of torch: too slow (FutureWarning)\n" in (tmp_path / "train.log").read_text()
    assert "site-packages" not in capsys.readouterr().err
    assert warnings.showwarning is not _log_warning


def test_a_log_on_a_full_disk_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.log").symlink_to("/dev/full")
    with log_to_file(tmp_path / "train.log"):
        LOGGER.warning("one")
        LOGGER.warning("two")
    assert capsys.readouterr().err.count("train.log can't be written (No space left on device)") == 1
