"""The loopback server's runs, with the real client on the other side."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from doubles.wandb_server import ServerRun, WandbServer
from wandb.sdk.lib.run_stopping import RunStopChecker

KILLED = """
import os, signal, sys, time, wandb
run = wandb.init(project="films", id="one", resume="allow")
for _ in range(3):
    run.log({"loss": 1.0})
time.sleep(60)
"""


def _quiet() -> wandb.Settings:
    """New ones for each run: the client writes the run's own into them."""
    return wandb.Settings(silent=True, console="off")


def _wait(until: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def quick(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    """The server, with a client that sends history every second."""
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS", "1")
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS", "1")
    return server


def _steps(run: ServerRun) -> list[int]:
    return [row["_step"] for row in run.rows]


def test_a_killed_run_crashes_and_a_resumed_one_continues(quick: WandbServer) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stderr=subprocess.DEVNULL) as killed:
        _wait(lambda: "one" in quick.runs and len(quick.runs["one"].history) == 3 and len(quick.runs["one"].events) > 0)
        killed.kill()
    run = quick.runs["one"]
    events = dict(run.events)
    assert (run.state, run.exit_code) == ("running", None)
    run.crashed_after = 0
    assert run.state == "crashed"
    run.crashed_after = 300

    with wandb.init(project="films", id="one", resume="must", config={"seed": 1}, settings=_quiet()) as resumed:
        assert resumed.starting_step == 3
        resumed.log({"loss": 0.5})
        resumed.log({"loss": 0.25}, step=9)
        assert run.state == "running"
    assert _steps(run) == [0, 1, 2, 3, 9]
    assert (run.state, run.config, run.summary["loss"]) == ("finished", {"seed": 1}, 0.25)
    assert len(run.events) > len(events)
    assert events.items() <= run.events.items(), "those of the first process are kept"

    with pytest.raises(wandb.errors.UsageError, match="already exists"):
        wandb.init(project="films", id="one", resume="never", settings=_quiet())
    with pytest.raises(wandb.errors.UsageError, match="does not exist"):
        wandb.init(project="films", id="other", resume="must", settings=_quiet())


def test_exit_codes_and_preemption_are_states(server: WandbServer) -> None:
    for name, preempting, code in [("fine", False, 0), ("bad", False, 3), ("moved", True, 75), ("done", True, 0)]:
        run = wandb.init(project="films", id=name, settings=_quiet(), reinit="finish_previous")
        if preempting:
            run.mark_preempting()
        run.finish(exit_code=code)
    told = {run.id: (run.state, run.exit_code) for run in server.runs.values()}
    assert told == {"fine": ("finished", 0), "bad": ("failed", 3), "moved": ("preempted", 75), "done": ("finished", 0)}
    states = {run.id: run.state for run in wandb.Api().runs("tester/films")}
    assert states == {name: state for name, (state, _) in told.items()}


def test_a_run_that_is_to_stop_is_told(quick: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunStopChecker.__init__, "__kwdefaults__", {"poll_interval": 0.2})  # in place of 15 s
    told = threading.Event()
    settings = wandb.Settings(silent=True, console="off", stop_fn=told.set)
    with wandb.init(project="films", id="one", settings=settings) as run:
        run.log({"loss": 1.0})
        _wait(lambda: len(quick.runs["one"].history) == 1)
        time.sleep(0.5)
        assert not told.is_set()
        wandb.Api().run("tester/films/one").stop()
        run.log({"loss": 0.5})
        assert told.wait(30)
    assert quick.runs["one"].stopped


def test_the_api_reads_a_run(server: WandbServer, tmp_path: Path) -> None:
    for seed in (0, 1):
        run = wandb.init(project="films", id=f"run{seed}", name=f"gru s{seed}", group="g", tags=[f"s{seed}"])
        with run:
            run.config["seed"] = seed
            for step in range(0, 2500, 10):
                run.log({"loss": seed + 1 / (step + 1), "often": step} if step % 20 else {"often": step}, step=step)
    api = wandb.Api()
    read = api.run("tester/films/run1")
    assert (read.state, read.name, read.group, read.config) == ("finished", "gru s1", "g", {"seed": 1})
    assert read.summary["often"] == 2490
    assert [row["_step"] for row in read.scan_history()] == list(range(0, 2500, 10))
    assert [row["loss"] for row in read.scan_history(keys=["loss"])] == [1 + 1 / (s + 1) for s in range(10, 2500, 20)]
    assert len(read.history(keys=["loss"], pandas=False)) == 125
    assert len(read.history(samples=50, pandas=False)) == 50
    assert read.lastHistoryStep == 2490
    names = {file.name for file in read.files()}
    assert {"config.yaml", "wandb-metadata.json", "wandb-summary.json"} <= names
    with read.file("wandb-summary.json").download(str(tmp_path)) as file:
        assert json.load(file)["often"] == 2490
    assert [run.id for run in api.runs("tester/films", order="-summary_metrics.loss")] == ["run1", "run0"]
    assert [run.id for run in api.runs("tester/films", filters={"config.seed": 0, "state": "finished"})] == ["run0"]
    assert [run.id for run in api.runs("tester/films", filters={"$or": [{"tags": "s0"}, {"tags": "s1"}]})] == [
        "run0",
        "run1",
    ]
    assert api.default_entity == "tester"
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        api.run("tester/films/none")


def test_an_offline_run_arrives_whole(server: WandbServer, tmp_path: Path) -> None:
    with wandb.init(project="films", id="off", mode="offline", dir=tmp_path, settings=_quiet(), config={"a": 1}) as run:
        for step in range(300):
            run.log({"loss": step / 2}, step=step)
        run.log({"table": wandb.Table(columns=["text"], data=[["fine film"]])}, step=300)
        artifact = wandb.Artifact("model", type="model")
        with artifact.new_file("best.ckpt") as file:
            file.write("weights")
        run.log_artifact(artifact, aliases=["best"])
    assert server.runs == {}
    (directory,) = (tmp_path / "wandb").glob("offline-run-*")
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(directory)], check=True, timeout=60, capture_output=True)
    arrived = server.runs["off"]
    assert arrived.rows[:300] == [{"_step": step, "loss": step / 2} for step in range(300)]
    assert arrived.rows[300]["table"]["nrows"] == 1
    assert (arrived.state, arrived.config) == ("finished", {"a": 1})
    assert [name for name in arrived.files if name.startswith("media/table/")]
    best = server.artifact("model:best")
    assert best is not None
    assert best.files == {"best.ckpt": b"weights"}


@pytest.mark.parametrize("fault", ["dies", "stalls"])
def test_nothing_is_lost_while_the_server_is_away(quick: WandbServer, fault: str) -> None:
    with wandb.init(project="films", id="one", settings=_quiet()) as run:
        run.log({"loss": 1.0})
        _wait(lambda: len(quick.runs["one"].history) == 1)
        (quick.die if fault == "dies" else quick.stall)()
        for _ in range(50):
            run.log({"loss": 0.5})
        time.sleep(2)
        assert len(quick.runs["one"].history) == 1
        (quick.come_back if fault == "dies" else quick.go_on)()
        run.log({"loss": 0.25})
    assert _steps(quick.runs["one"]) == list(range(52))
    assert quick.runs["one"].state == "finished"


def test_what_the_double_does_not_know_is_an_error_and_kept(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with pytest.raises(Exception, match="the double doesn't know GetProject"):
            list(wandb.Api().projects("tester"))
        wandb.init(project="films", settings=_quiet()).finish()
        with pytest.raises(Exception, match="the double doesn't know runs by user"):
            list(wandb.Api().runs("tester/films", filters={"user": "me"}))
        for method, path in (("PUT", "/artifacts/none/manifest"), ("DELETE", "/run-files/none/a"), ("GET", "/nothing")):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(urllib.request.Request(server.url + path, method=method, data=b""))
        found = [what.partition(" ")[0] for what in server.unknown]
        assert found == ["GetProjects", "runs", "PUT", "DELETE", "GET"]
        server.unknown.clear()


def test_what_the_double_does_not_know_fails_the_test(wandb_home: Path) -> None:
    with pytest.raises(AssertionError), WandbServer() as server, pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{server.url}/nothing")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_an_error_at_once(server: WandbServer, status: int) -> None:
    server.refusal = status
    with pytest.raises(wandb.errors.CommError, match="permission denied"):
        wandb.init(project="films", settings=_quiet())
    assert server.runs == {}
