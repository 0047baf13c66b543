"""The contract of the loopback W&B server for runs and artifacts, with the real client, API and `wandb sync`."""

import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from doubles.wandb_server import Fault, ServerRun, WandbServer
from wandb.sdk.lib.run_stopping import RunStopChecker

KILLED = """
import time, wandb
run = wandb.init(project="films", id="one", resume="allow")
for _ in range(3):
    run.log({"loss": 1.0})
time.sleep(60)
"""


def _silent(**more: Any) -> wandb.Settings:
    """New settings for each run, as the client writes the run's own into them."""
    return wandb.Settings(silent=True, console="off", **more)


def _wait(until: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_killed_run_is_resumed_and_no_row_is_lost_while_the_server_is_away(quick: WandbServer) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stderr=subprocess.DEVNULL) as killed:
        _wait(lambda: "one" in quick.runs and len(quick.runs["one"].history) == 3 and len(quick.runs["one"].events) > 0)
        killed.kill()
    run = quick.runs["one"]
    events = dict(run.events)
    assert (run.state, run.exit_code) == ("running", None)
    run.crashed_after = 0
    assert run.state == "crashed"
    run.crashed_after = 300

    with wandb.init(project="films", id="one", resume="must", config={"seed": 1}, settings=_silent()) as resumed:
        assert resumed.starting_step == 3
        resumed.log({"loss": 0.5})
        _wait(lambda: len(run.history) == 4)
        assert run.state == "running"
        for fail, recover in ((quick.die, quick.come_back), (quick.stall, quick.go_on)):
            arrived = len(run.history)
            fail()
            for _ in range(20):
                resumed.log({"loss": 0.5})
            time.sleep(2)
            assert len(run.history) == arrived
            recover()
            _wait(lambda arrived=arrived: len(run.history) == arrived + 20)  # type: ignore[misc]  # a bound default
        resumed.log({"loss": 0.25}, step=99)
    assert [row["_step"] for row in run.rows] == [*range(44), 99]
    assert (run.state, run.config, run.summary["loss"]) == ("finished", {"seed": 1}, 0.25)
    assert len(run.events) > len(events)
    assert events.items() <= run.events.items(), "those of the first process are kept"

    with pytest.raises(wandb.errors.UsageError, match="already exists"):
        wandb.init(project="films", id="one", resume="never", settings=_silent())
    with pytest.raises(wandb.errors.UsageError, match="does not exist"):
        wandb.init(project="films", id="other", resume="must", settings=_silent())


def test_exit_codes_preemption_and_stop_requests(quick: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, preempting, code in [("bad", False, 3), ("moved", True, 75), ("done", True, 0)]:
        run = wandb.init(project="films", id=name, settings=_silent(), reinit="finish_previous")
        if preempting:
            run.mark_preempting()
        run.finish(exit_code=code)
    monkeypatch.setattr(RunStopChecker.__init__, "__kwdefaults__", {"poll_interval": 0.2})  # in place of 15 s
    stopped = threading.Event()
    with wandb.init(project="films", id="fine", settings=_silent(stop_fn=stopped.set)) as run:
        run.log({"loss": 1.0})
        _wait(lambda: len(quick.runs["fine"].history) == 1)
        time.sleep(0.5)
        assert not stopped.is_set()
        wandb.Api().run("tester/films/fine").stop()
        run.log({"loss": 0.5})
        assert stopped.wait(30)
    assert [run.id for run in quick.runs.values() if run.stopped] == ["fine"]
    ends = {run.id: (run.state, run.exit_code) for run in quick.runs.values()}
    assert ends == {"bad": ("failed", 3), "moved": ("preempted", 75), "done": ("finished", 0), "fine": ("finished", 0)}
    states = {run.id: run.state for run in wandb.Api().runs("tester/films")}
    assert states == {name: state for name, (state, _) in ends.items()}


def _log_model(run: wandb.Run, folder: Path, text: str, accuracy: float, aliases: list[str]) -> wandb.Artifact:
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "best ckpt").write_bytes(text.encode() + bytes(range(256)))
    (folder / "inner" / "config.yaml").write_text(f"seed: {accuracy}\n")
    artifact = wandb.Artifact("gru-model", type="model", metadata={"val/accuracy": accuracy})
    artifact.add_dir(str(folder))
    return run.log_artifact(artifact, aliases=aliases).wait()


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_api_reads_runs_and_artifacts(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for seed in (0, 1):
        with wandb.init(project="films", id=f"run{seed}", name=f"gru s{seed}", group="g", tags=[f"s{seed}"]) as run:
            run.config["seed"] = seed
            for step in range(0, 2500, 10):
                run.log({"loss": seed + 1 / (step + 1), "often": step} if step % 20 else {"often": step}, step=step)
            if seed == 0:
                assert _log_model(run, folder, "one", 0.5, ["best"]).version == "v0"
                first = _contents(folder)
                assert _log_model(run, folder, "two", 0.75, ["best"]).version == "v1"
                assert _log_model(run, folder, "two", 0.75, []).version == "v1", "the same content is no new version"
            else:
                assert run.use_artifact("gru-model:latest").version == "v1"
    api = wandb.Api()
    _assert_runs_are_read(api, tmp_path)

    versions = {artifact.version: artifact for artifact in server.artifacts.values()}
    assert versions[0].aliases == []
    assert sorted(versions[1].aliases) == ["best", "latest"]
    assert versions[1].metadata == {"val/accuracy": 0.75}
    best = api.artifact("tester/films/gru-model:best")
    assert (best.version, best.type, best.metadata) == ("v1", "model", {"val/accuracy": 0.75})
    assert best.logged_by().id == "run0"
    assert [user.id for user in best.used_by()] == ["run1"]
    assert [artifact.name for artifact in api.run("tester/films/run1").used_artifacts()] == ["gru-model:v1"]
    logged = {artifact.name for artifact in api.run("tester/films/run0").logged_artifacts()}
    assert logged == {"gru-model:v0", "gru-model:v1"}
    assert _contents(Path(best.download(str(tmp_path / "best")))) == _contents(folder)
    earlier = api.artifact("tester/films/gru-model:v0")
    assert _contents(Path(earlier.download(str(tmp_path / "earlier")))) == first
    with pytest.raises(wandb.errors.CommError, match="gru-model:second"):
        api.artifact("tester/films/gru-model:second")

    earlier.aliases.append("best")
    earlier.metadata["note"] = "after all"
    earlier.save()
    moved = wandb.Api().artifact("tester/films/gru-model:best")
    assert (moved.version, moved.metadata["note"]) == ("v0", "after all")
    assert wandb.Api().artifact("tester/films/gru-model:latest").version == "v1"


def _assert_runs_are_read(api: wandb.Api, tmp_path: Path) -> None:
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

    def found(**how: Any) -> list[str]:
        return [run.id for run in api.runs("tester/films", **how)]

    assert found(order="-summary_metrics.loss") == ["run1", "run0"]
    assert found(filters={"config.seed": 0, "state": "finished"}) == ["run0"]
    assert found(filters={"$or": [{"tags": "s0"}, {"tags": "s1"}]}) == ["run0", "run1"]
    assert api.default_entity == "tester"
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        api.run("tester/films/none")


def test_an_offline_run_arrives_whole(server: WandbServer, tmp_path: Path) -> None:
    offline: dict[str, Any] = {"mode": "offline", "dir": tmp_path, "settings": _silent(), "config": {"a": 1}}
    with wandb.init(project="films", id="off", **offline) as run:
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


def test_unknown_requests_are_errors_and_are_kept(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, api_key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", api_key)
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with pytest.raises(Exception, match="the double doesn't know GetProject"):
            list(wandb.Api().projects("tester"))
        server.runs["one"] = ServerRun(id="one", project="films", crashed_after=300)
        with pytest.raises(Exception, match="the double doesn't know runs by user"):
            list(wandb.Api().runs("tester/films", filters={"user": "me"}))
        for method, path in (("PUT", "/artifacts/none/manifest"), ("DELETE", "/run-files/none/a"), ("GET", "/nothing")):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(urllib.request.Request(server.url + path, method=method, data=b""))
        assert [request.partition(" ")[0] for request in server.unknown] == [
            "GetProjects",
            "runs",
            "PUT",
            "DELETE",
            "GET",
        ]
        server.unknown.clear()


def test_an_unknown_request_fails_the_test_that_made_it() -> None:
    with pytest.raises(AssertionError), WandbServer() as server, pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{server.url}/nothing")


def test_a_refusal_is_an_error_at_once(server: WandbServer) -> None:
    for status in (401, 403):
        server.refusal = status
        with pytest.raises(wandb.errors.CommError, match="permission denied"):
            wandb.init(project="films", settings=_silent())
    assert server.runs == {}


def test_after_one_403_the_file_stream_is_silent_and_an_artifact_without_its_file_stays_pending(
    quick: WandbServer, tmp_path: Path
) -> None:
    quick.faults = [Fault("file stream", 403), Fault("PUT artifact", 403, times=None)]
    run = wandb.init(project="films", id="one", dir=tmp_path, settings=_silent())
    for step in range(3):
        run.log({"loss": 1.0}, step=step)
    _wait(lambda: quick.faults[0].done == 1)
    artifact = wandb.Artifact("model", type="model")
    with artifact.new_file("best.ckpt") as file:
        file.write("weights")
    run.log_artifact(artifact)
    run.finish()
    assert (quick.runs["one"].rows, quick.runs["one"].state) == ([], "running")
    assert [artifact.version for artifact in quick.artifacts.values()] == [None]
    assert quick.faults[1].done == 1, "403 is not tried again"
    assert "config.yaml" in quick.runs["one"].files, "files go on"


def test_a_fault_strikes_as_often_as_it_says(server: WandbServer) -> None:
    server.faults = [Fault("PUT *", 503, times=2, after=1)]
    run = server.runs["one"] = ServerRun(id="one", project="films", crashed_after=300)
    answers = []
    for _ in range(4):
        request = urllib.request.Request(f"{server.url}/run-files/one/a", method="PUT", data=b"content")
        try:
            with urllib.request.urlopen(request) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
    assert answers == [200, 503, 503, 200]
    run.files.clear()
    for kind in ("reset", "stall", "half"):
        server.faults = [Fault("PUT file", kind)]
        request = urllib.request.Request(f"{server.url}/run-files/one/{kind}", method="PUT", data=b"content")
        with pytest.raises((OSError, http.client.IncompleteRead)), urllib.request.urlopen(request) as broken:
            broken.read()
    assert list(run.files) == ["half"], "carried out, and answered half"
