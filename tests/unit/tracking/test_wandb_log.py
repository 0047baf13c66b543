from pathlib import Path

import pytest

from textrnn.base.console import LOGGER, log_to_file
from textrnn.tracking.wandb_log import LogUpload


def test_each_line_of_the_log_is_sent_once_also_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOGGER, "level", 20)
    log, counter = tmp_path / "train.log", tmp_path / "log-lines"
    sent: list[str] = []
    with log_to_file(log):
        LOGGER.info("before the W&B run")
        upload = LogUpload(log, known=0, counter=counter, send=sent.append)
        LOGGER.warning("two\n\nlines, ü")
        assert "".join(sent) == log.read_text(encoding="utf-8")
        upload.close()
        LOGGER.info("after it")
    known = int(counter.read_text())
    assert known == 4
    with log_to_file(log):
        LOGGER.info("again")
        upload = LogUpload(log, known=known, counter=counter, send=sent.append)
        upload.close()
        upload.close()
        LOGGER.info("the last")
    assert "".join(sent) == log.read_text(encoding="utf-8").rpartition("\n")[0].rpartition("\n")[0] + "\n"
    assert int(counter.read_text()) == 6


def test_a_server_that_has_more_lines_than_the_log_gets_the_new_ones(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"\xff one\n")
    sent: list[str] = []
    upload = LogUpload(log, known=9, counter=tmp_path / "log-lines", send=sent.append)
    with log.open("a") as file:
        file.write("two\n")
    upload.close()
    assert sent == ["two\n"]


def test_a_kill_leaves_the_old_count_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, counter = tmp_path / "train.log", tmp_path / "log-lines"
    log.write_text("one\n")
    upload = LogUpload(log, known=0, counter=counter, send=lambda _: None)
    with log.open("a") as file:
        file.write("two\n")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            upload.send_rest()
    assert counter.read_text() == "1"
    upload.close()
