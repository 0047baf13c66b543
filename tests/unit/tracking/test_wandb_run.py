import json
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.wandb_server import Fault, WandbServer

from textrnn.base.errors import InputError
from textrnn.config.schema import Config, TrackingConfig
from textrnn.tracking import wandb_settings, wandb_start
from textrnn.tracking.identity import RunIdentity, new_identity
from textrnn.tracking.wandb_identity import refuse_another
from textrnn.tracking.wandb_run import WandbRun
from textrnn.tracking.wandb_settings import resolve_mode

RUN = Path("runs/r")


def _identity(config: Config) -> RunIdentity:
    return new_identity(config, ["train.py", "model=gru"])


def _start(
    run_dir: Path, mode: str, config: Config | None = None, *, resume: bool = False
) -> tuple[WandbRun, RunIdentity]:
    config = config or Config()
    identity = _identity(config)
    run_dir.mkdir(parents=True, exist_ok=True)
    return WandbRun.start(config, identity, run_dir, mode=mode, resume=resume), identity


def _inspect(run: WandbRun) -> dict[str, Any]:
    """The state and the last metrics in a run's .wandb file, read by W&B's own viewer."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run.directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_online_the_run_arrives_whole(
    server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], api_key: str
) -> None:
    tracking = TrackingConfig(tags=["a", "b"], notes="why", group="g", project="films")
    config = Config(tracking=tracking, seed=7)
    run, identity = _start(tmp_path / "run", "online", config)
    assert run.url == f"{server.url}/tester/films/runs/{identity.id}"
    for step in (50, 100):
        run.log({"train/loss": 1 / step, "val/loss": 2 / step}, step=step)
        run.log({"train/loss": 3.0}, step=step)  # W&B has this step
    run.summarize({"parameters": 123})
    run.finish(0)
    (arrived,) = server.runs.values()
    assert arrived.id == identity.id
    assert arrived.rows == [{"_step": step, "train/loss": 1 / step, "val/loss": 2 / step} for step in (50, 100)]
    assert arrived.exit_code == 0
    assert arrived.summary["parameters"] == 123
    assert arrived.config["model.cell"] == "gru"
    assert arrived.config["seed"] == 7
    assert arrived.config["run.command"] == ["train.py", "model=gru"]
    record = arrived.record
    assert record["displayName"] == "gru-128x1-bi s7"
    assert (record["groupName"], record["notes"], record["tags"]) == ("g", "why", ["a", "b"])
    assert (record["project"], record["jobType"]) == ("films", "train")
    assert server.keys == {api_key}
    # The key is in no file of the run, nor anywhere else that the client wrote; nor is the code.
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if api_key.encode() in path.read_bytes()]
    assert all(path.is_relative_to(tmp_path / "run" / "wandb") or ".cache/wandb" in str(path) for path in files)
    assert sorted(arrived.files) == ["config.yaml", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"]
    assert not [name for name, content in arrived.files.items() if api_key.encode() in content]
    assert capfd.readouterr() == ("", "")


def test_the_commit_is_the_identitys(server: WandbServer, tmp_path: Path) -> None:
    config = Config()
    identity = _identity(config)
    identity.git_commit = "c0ffee" * 6 + "abcd"
    run = WandbRun.start(config, identity, tmp_path, mode="online", resume=False)
    run.finish(0)
    arrived = server.runs[identity.id]
    assert json.loads(arrived.files["wandb-metadata.json"])["git"]["commit"] == identity.git_commit
    assert arrived.config["run.git_commit"] == identity.git_commit


def test_a_failed_run_says_so_and_a_resumed_one_stays_the_same(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NAME", "first name")
    tracking = TrackingConfig(tags=["a"], group="g", job_type="try", notes="why")
    config = Config(tracking=tracking)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    run, identity = _start(tmp_path, "online", config)
    run.log({"train/loss": 1.0}, step=10)
    run.finish(1)
    (arrived,) = server.runs.values()
    assert arrived.exit_code == 1
    edited = {"displayName": "a better name", "tags": ["a", "good"], "groupName": "h", "jobType": "t", "notes": "so"}
    arrived.record |= edited  # in the browser
    monkeypatch.setenv("WANDB_TAGS", "of the environment")
    run = WandbRun.start(config, identity, tmp_path, mode="online", resume=True)
    run.tag("early-stopped")
    run.log({"train/loss": 0.5}, step=20)
    run.finish(0)
    assert list(server.runs) == [identity.id]
    assert [row["_step"] for row in arrived.rows] == [10, 20]
    assert arrived.exit_code == 0
    edited["tags"] = ["a", "good", "early-stopped"]
    assert {name: arrived.record[name] for name in edited} == edited
    typed = Config(tracking=replace(tracking, name="typed now", tags=["b"]))
    WandbRun.start(typed, identity, tmp_path, mode="online", resume=True).finish(0)
    assert {name: arrived.record[name] for name in edited} == {**edited, "displayName": "typed now", "tags": ["b"]}


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_of_this_id_that_is_another_one_is_refused(
    resume: bool, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "same0001")
    monkeypatch.setenv("WANDB_RESUME", "allow")
    run, _ = _start(tmp_path / "first", "online")
    run.log({"train/loss": 1.0}, step=10)
    run.finish(0)
    config = Config()
    other = replace(new_identity(config, ["train.py", "model=lstm"]), created="2026-01-01T00:00:00+00:00")
    (tmp_path / "second").mkdir()
    with pytest.raises(InputError, match=r"W&B has a run same0001 already, and it is not the one in .*second"):
        WandbRun.start(config, other, tmp_path / "second", mode="online", resume=resume)
    with pytest.raises(InputError, match=r"W&B has a run same0001 already"):
        refuse_another(config, other, tmp_path / "second")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    with pytest.raises(InputError, match=r"W&B has a run same0001 already.*start this agent where"):
        WandbRun.start(config, other, tmp_path / "second", mode="online", resume=resume)
    (arrived,) = server.runs.values()
    assert [row["_step"] for row in arrived.rows] == [10]
    assert arrived.state == "finished"
    assert arrived.config["run.command"] == ["train.py", "model=gru"]


@pytest.mark.slow
def test_a_run_that_was_deleted_is_refused_with_what_uploads_it(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(tracking=TrackingConfig(project="films"))
    run, identity = _start(tmp_path / "run", "online", config)
    run.log({"train/loss": 1.0}, step=10)
    run.finish(1)
    server.delete_run(identity.id)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"was deleted in W&B.*restore it there, or type tracking=offline") as refused:
        WandbRun.start(config, identity, tmp_path / "run", mode="online", resume=True)
    assert time.monotonic() - started < wandb_settings.START_TIMEOUT / 2
    run = WandbRun.start(config, identity, tmp_path / "run", mode="offline", resume=True)
    run.log({"train/loss": 1.0}, step=10)
    run.log({"train/loss": 0.5}, step=20)
    run.finish(0)
    advised = shlex.split(str(refused.value).partition(" by ")[2].replace("NEW", "another1"))
    parts = sorted(str(part) for part in Path(advised[-1]).parent.glob(Path(advised[-1]).name))
    subprocess.run([sys.executable, "-m", *advised[:-1], *parts], capture_output=True, timeout=60, check=True)
    assert [row["_step"] for row in server.runs["another1"].rows] == [10, 20]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_does_not_heal_is_refused_at_once(
    status: int, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refusal = status
    started = time.monotonic()
    with pytest.raises(InputError, match=r"W&B refuses the run .*correct tracking\.entity"):
        _start(tmp_path, "online")
    assert time.monotonic() - started < 10
    server.refusal = None
    config = Config(tracking=TrackingConfig(entity="testre"))
    with pytest.raises(InputError, match=r"entity testre not found .*correct tracking\.entity"):
        _start(tmp_path, "online", config)
    assert server.runs == {}


@pytest.mark.slow
def test_a_trial_waits_for_w_and_b_as_it_is_asked_to(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_settings, "START_TIMEOUT", 1.0)
    monkeypatch.setattr(wandb_settings, "SILENCE", 1.0)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    config = Config()
    server.faults.append(Fault("UpsertBucket", 429, times=2, retry_after=2))
    started = time.monotonic()
    with caplog.at_level("INFO"):
        run, _ = _start(tmp_path / "run", resolve_mode(config.tracking, tmp_path)[0], config)
    assert run.url is not None
    assert time.monotonic() - started > 4, "Retry-After counts"
    assert "W&B has not taken the run yet; it is asked again for up to 5 min 0 s" in caplog.text
    run.finish(0)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    server.faults.append(Fault("UpsertBucket", 429, times=None))
    with pytest.raises(
        InputError, match=r"W&B did not take the run \(.*429.*\): no agent .* with WANDB_SWEEP_ID=sweep1 before"
    ):
        _start(tmp_path / "other", "online", config)


@pytest.mark.slow
def test_a_server_that_dies_does_not_hold_the_run_up(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_start, "FINISH_TIMEOUT", 2.0)
    run, _ = _start(tmp_path, "online")
    run.log({"train/loss": 1.0}, step=10)
    server.die()
    started = time.monotonic()
    run.log({"train/loss": 0.5}, step=20)
    assert time.monotonic() - started < 0.5
    assert not run.finish(0)
    assert time.monotonic() - started < 10
    assert "W&B does not answer" in caplog.text
    assert _inspect(run)["summary"]["train/loss"] == 0.5, "nothing is lost"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "online", "WANDB_MODE"])
def test_a_server_that_stalls_after_the_probe(
    mode: str,
    wandb_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    api_key: str,
) -> None:
    monkeypatch.setattr(wandb_settings, "START_TIMEOUT", 2.0)
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    config = Config(tracking=TrackingConfig(mode="online" if mode == "online" else "auto"))
    if mode == "WANDB_MODE":
        monkeypatch.setenv("WANDB_MODE", "online")
    with WandbServer(stalls=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert resolve_mode(config.tracking, RUN) == ("online", None)
        if mode != "auto":
            with pytest.raises(InputError, match=r"did not take the run .* type tracking=offline"):
                _start(tmp_path, "online", config)
            return
        run, identity = _start(tmp_path, "online", config)
        run.log({"train/loss": 0.5}, step=20)
        run.finish(0)
    assert "W&B is offline" in caplog.text
    assert run.directory.name.endswith(identity.id)
    assert run.directory.name.startswith("offline-run-")


def test_a_malformed_key_and_a_malformed_tag_are_refused(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"tracking: W&B refuses the run .*64 characters"):
        _start(tmp_path, "online", Config(tracking=TrackingConfig(tags=["x" * 65])))
    monkeypatch.setenv("WANDB_API_KEY", "short")
    import wandb

    wandb.teardown()
    with pytest.raises(InputError, match=r"API key must have 40\+ characters"):
        _start(tmp_path, "online")
    assert server.runs == {}


OFFLINE = """
import os, sys, time
from pathlib import Path
import wandb
from textrnn.config.schema import Config
from textrnn.tracking.identity import new_identity
from textrnn.tracking.wandb_settings import resolve_mode
from textrnn.tracking.wandb_identity import refuse_another
from textrnn.tracking.wandb_run import WandbRun
config, run_dir = Config(), Path("run")
run_dir.mkdir()
mode, line = resolve_mode(config.tracking, run_dir)
started = time.monotonic()
run = WandbRun.start(config, new_identity(config, sys.argv), run_dir, mode=mode, resume=False)
for step in range(1000):
    run.log({"train/loss": 1.0 / (step + 1)}, step=step)
run.log({"test/mistakes": wandb.Table(columns=["text"], data=[["a film"]])}, step=1000)
run.finish(0)
assert "WANDB_DATA_DIR" not in os.environ
assert [path for path in (run.directory / "artifacts" / "staging").iterdir() if path.is_file()]
print(mode, line, run.url, run.directory, sep="|")
"""


@pytest.mark.slow
def test_offline_without_terminal_key_or_network(wandb_home: Path, tmp_path: Path) -> None:
    """As a newcomer meets it: quick, quiet, every write where it belongs, and nobody outside is called."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_ERROR_REPORTING"}
    outside = socket.create_server(("127.0.0.1", 0))
    proxy = f"http://127.0.0.1:{outside.getsockname()[1]}"
    environment |= {"TMPDIR": str(temporary), "HTTPS_PROXY": proxy, "PYTHONDONTWRITEBYTECODE": "1"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert time.monotonic() - started < 20
    outside.setblocking(False)
    with outside, pytest.raises(BlockingIOError):
        outside.accept()  # nobody has called
    mode, line, url, directory = done.stdout.strip().split("|")
    assert (mode, url) == ("offline", "None")
    assert "no W&B account configured" in line
    assert done.stderr == ""
    assert Path(directory).parent == Path("run/wandb").resolve()
    work = Path.cwd()
    assert [path.name for path in work.iterdir()] == ["run"]
    assert [path.name for path in (work / "run").iterdir()] == ["wandb"]
    assert [path.name for path in wandb_home.iterdir()] == [".cache"]
    assert [path.name for path in (wandb_home / ".cache").iterdir()] == ["wandb"]
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_the_offline_record_is_readable(wandb_home: Path, tmp_path: Path) -> None:
    run, _ = _start(tmp_path, "offline")
    run.log({"train/loss": 0.5, "val/accuracy": 0.75}, step=20)
    run.finish(0)
    assert run.url is None
    values = _inspect(run)
    assert values["summary"]["val/accuracy"] == 0.75


@pytest.mark.slow
def test_without_a_folder_for_tables_the_row_is_kept(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "file" / "data"))
    run, _ = _start(tmp_path / "run", "offline")
    run.log({"test/loss": 0.5, "test/predictions": wandb.Table(columns=["text"], data=[["a film"]])}, step=10)
    assert run.finish(0)
    assert "can't write to its data folder, which WANDB_DATA_DIR names" in caplog.text
    assert _inspect(run)["summary"]["test/loss"] == 0.5
