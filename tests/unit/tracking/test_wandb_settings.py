import contextlib
import http.server
import logging
import re
import shlex
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from doubles.wandb_server import WandbServer

from textrnn.base.errors import InputError
from textrnn.config.schema import TrackingConfig
from textrnn.tracking import wandb_settings as wandb_mode
from textrnn.tracking.wandb_settings import resolve_mode

RUN = Path("runs/r")


def test_none_and_offline_are_as_asked(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert resolve_mode(TrackingConfig(mode="none"), RUN) == ("none", None)
    mode, line = resolve_mode(TrackingConfig(mode="offline"), RUN)
    assert mode == "offline"
    assert line is not None
    assert "wandb leet runs/r/wandb" in line
    assert "wandb sync runs/r/wandb/offline-run-*" in line


def test_the_offline_line_can_be_typed_whatever_the_folder_is_called(tmp_path: Path) -> None:
    for name in ("a film", "it's", "a*b", "$HOME"):
        record = tmp_path / name / "trial" / "wandb" / "offline-run-1"
        record.mkdir(parents=True)
        for folder, trial in ((tmp_path / name / "trial", "trial"), (tmp_path / name / "*", "TRIAL")):
            _, line = resolve_mode(TrackingConfig(mode="offline"), folder)
            said = re.fullmatch(r".* To view: (wandb leet .*); to upload later: wandb sync (.*)", line or "")
            assert said is not None
            assert shlex.split(said[1]) == ["wandb", "leet", str(tmp_path / name / trial / "wandb")]
            assert subprocess.check_output(["sh", "-c", f"printf %s {said[2]}"], text=True) == str(record)


@pytest.mark.parametrize(
    ("said", "mode"), [("online", "online"), ("offline", "offline"), ("dryrun", "offline"), ("disabled", "none")]
)
def test_auto_follows_wandb_mode(said: str, mode: str, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", said)
    assert resolve_mode(TrackingConfig(), RUN)[0] == mode


@pytest.mark.parametrize("variable", ["WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"])
@pytest.mark.parametrize("said", ["abc", "0", "-3", "nan", "inf"])
def test_a_timeout_that_is_no_time_is_refused(
    variable: str, said: str, wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, said)
    assert resolve_mode(TrackingConfig(mode="none"), RUN) == ("none", None)
    with pytest.raises(InputError, match=f"{variable}='{said}' is not a number of seconds"):
        resolve_mode(TrackingConfig(mode="offline"), RUN)


def test_a_wandb_mode_that_is_none_is_refused(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(InputError, match="WANDB_MODE='onlin'"):
        resolve_mode(TrackingConfig(), RUN)


def test_without_a_key_auto_is_offline_and_online_is_refused(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode, line = resolve_mode(TrackingConfig(), RUN)
    assert mode == "offline"
    assert line is not None
    assert "(no W&B account configured)" in line
    assert "\n" not in line
    with pytest.raises(InputError, match=r"tracking is online: no W&B account .* tracking=offline or tracking=auto"):
        resolve_mode(TrackingConfig(mode="online"), RUN)
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(InputError, match=r"WANDB_MODE is online: no W&B account .*, or type tracking=offline\.$"):
        resolve_mode(TrackingConfig(), RUN)


def test_a_key_is_found_in_environment_netrc_and_settings(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, api_key: str
) -> None:
    assert resolve_mode(TrackingConfig(), RUN) == ("online", None)
    monkeypatch.delenv("WANDB_API_KEY")
    netrc = Path.home() / ".netrc"
    netrc.write_text(f"machine api.example.org\n  login user\n  password {api_key}\n")
    netrc.chmod(0o600)
    assert resolve_mode(TrackingConfig(), RUN)[0] == "offline", "another server's"
    host = server.url.removeprefix("http://")
    netrc.write_text(f"machine {host}\n  login user\n  password {api_key}\n")
    assert resolve_mode(TrackingConfig(), RUN) == ("online", None)
    netrc.unlink()
    monkeypatch.delenv("WANDB_BASE_URL")
    settings = Path.home() / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[default]\nbase_url = {server.url}\napi_key = {api_key}\n")
    assert resolve_mode(TrackingConfig(), RUN) == ("online", None)
    settings.write_text(f"[default]\nbase_url = {server.url}\napi_key = {api_key}%\nmode = online\n")
    assert resolve_mode(TrackingConfig(), RUN) == ("online", None)
    Path("wandb").mkdir()
    Path("wandb", "settings").write_text("[default]\nmode = offline\n")
    assert resolve_mode(TrackingConfig(), RUN)[0] == "offline", "the folder's own settings come before the user's"


@pytest.mark.usefixtures("wandb_home")
def test_a_login_from_the_default_servers_earlier_name_counts(monkeypatch: pytest.MonkeyPatch, api_key: str) -> None:
    monkeypatch.setattr(wandb_mode, "_answers", lambda url: True)
    (Path.home() / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {api_key}\n")
    assert resolve_mode(TrackingConfig(), RUN) == ("online", None)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert resolve_mode(TrackingConfig(), RUN)[0] == "offline", "another server's"


def test_a_netrc_that_can_not_be_read_is_said(wandb_home: Path, caplog: pytest.LogCaptureFixture, api_key: str) -> None:
    (wandb_home / ".netrc").write_text(f"password {api_key} nonsense\n")
    with caplog.at_level(logging.WARNING, logger="textrnn"):
        assert resolve_mode(TrackingConfig(), RUN)[0] == "offline"
    assert ".netrc" in caplog.text
    assert api_key not in caplog.text


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_out_of_reach_costs_seconds(
    kind: str, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, api_key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        if kind == "closed":
            silent.close()
        started = time.monotonic()
        mode, line = resolve_mode(TrackingConfig(), RUN)
        assert time.monotonic() - started < 5
        assert mode == "offline"
        assert line is not None
        assert "does not answer" in line
        started = time.monotonic()
        with pytest.raises(InputError, match=r"does not answer.* tracking=offline or tracking=auto"):
            resolve_mode(TrackingConfig(mode="online"), RUN)
        assert time.monotonic() - started < 5


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers /CODE with it, and /slowly with a byte a second."""

    def do_GET(self) -> None:
        if self.path != "/slowly":
            self.send_error(int(self.path[1:]))
        else:
            with contextlib.suppress(OSError):
                for _ in range(8):
                    self.wfile.write(b"H")
                    time.sleep(1)

    def log_message(self, *said: Any) -> None:
        """Keeps quiet."""


@pytest.mark.parametrize(
    ("path", "mode"), [("401", "online"), ("404", "online"), ("503", "offline"), ("slowly", "offline")]
)
def test_what_counts_as_an_answer(
    path: str, mode: str, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, api_key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as answering:
        answering.block_on_close = False
        threading.Thread(target=answering.serve_forever, args=(0.05,)).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{answering.server_port}/{path}")
        started = time.monotonic()
        found, _ = resolve_mode(TrackingConfig(), RUN)
        took = time.monotonic() - started
        answering.shutdown()
    assert found == mode
    assert took < 5


def test_an_address_that_is_none_is_said(wandb_home: Path, monkeypatch: pytest.MonkeyPatch, api_key: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://[::bad")
    mode, line = resolve_mode(TrackingConfig(), RUN)
    assert mode == "offline"
    assert line is not None
    assert "is not a URL" in line
    with pytest.raises(InputError, match=r"is not a URL .* correct WANDB_BASE_URL"):
        resolve_mode(TrackingConfig(mode="online"), RUN)


@pytest.mark.usefixtures("wandb_home")
def test_a_server_that_speaks_no_http_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], api_key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_8.9\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{other.getsockname()[1]}")
        mode, line = resolve_mode(TrackingConfig(), RUN)
        thread.join()
    assert (mode, "does not answer" in str(line)) == ("offline", True)
    assert "Traceback" not in capfd.readouterr().err


def test_a_password_in_the_address_is_not_shown(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, api_key: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://user:hidden@127.0.0.1:1")
    _, line = resolve_mode(TrackingConfig(), RUN)
    assert "for http://127.0.0.1:1)" in str(line)
    (wandb_home / ".netrc").write_text(f"machine 127.0.0.1:1\n  login user\n  password {api_key}\n")
    _, line = resolve_mode(TrackingConfig(), RUN)
    assert "http://127.0.0.1:1 does not answer" in str(line)
    assert "hidden" not in str(line)
