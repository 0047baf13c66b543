"""Whole runs through train.py and the real W&B client, against a server that dies, stops runs and comes back."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.quick_agent import QUICK_AGENT, told_at_once
from doubles.run_files import LONGER, LONGEST, SMALL, last_step, start, wait_for_step
from doubles.sweep_runs import sweep_file
from doubles.tracked_runs import KEY, assert_whole, log_in, only_run, rows_of, summary_of, sync, untimed, wandb_core
from doubles.wandb_server import Fault, WandbServer
from support import ROOT, Command

from textrnn.tracking.wandb_internals import table_artifact
from textrnn.training.fit import STOP_POLL

ONLINE = (*LONGER, "tracking=auto")
ENDLESS = ("trainer.max_epochs=4000", "early_stopping.patience=null")


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[WandbServer]:
    """An account on a server that answers, for every command of the test."""
    with WandbServer() as running:
        log_in(environment, running)
        yield running


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_killed_interrupted_and_crashed_it_is_one_whole_run(
    server: WandbServer, here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    run, whole = workplace / "disturbed", workplace / "whole"
    assert here("train.py", *LONGEST, "run_dir=whole").returncode == 0
    moment = random.Random(1)
    for step, number, code, state in (
        *((4, signal.SIGKILL, -9, None), (20, None, 1, "failed"), (40, signal.SIGKILL, -9, None)),
        *((60, signal.SIGINT, 130, "failed"), (80, signal.SIGKILL, -9, None), (100, signal.SIGTERM, 75, "preempted")),
    ):
        before = last_step(run)
        process = start((*LONGEST, "tracking=auto", "run_dir=disturbed"), workplace, environment)
        wait_for_step(run, max(step, before + 1), process)
        if number is None:
            (run / "checkpoints").rename(run / "moved")
            (run / "checkpoints").write_text("not a folder")
        else:
            time.sleep(moment.random() / 5 if number == signal.SIGKILL else 0)
            process.send_signal(number)
        assert process.wait(timeout=60) == code
        if state is not None:
            assert (only_run(server).exit_code, only_run(server).state) == (code, state)
        if number is None:
            assert only_run(server).summary["status"] == "failed"
            (run / "checkpoints").unlink()
            (run / "moved").rename(run / "checkpoints")
    process = start((*LONGEST, "tracking=auto", "run_dir=disturbed"), workplace, environment)
    assert process.wait(timeout=60) == 0
    assert_whole(server, run)
    assert untimed(only_run(server).rows) == untimed(rows_of(whole))
    assert untimed([summary_of(run)]) == untimed([summary_of(whole)])
    assert only_run(server).id == json.loads((run / "run.json").read_text())["id"]


@pytest.mark.slow
def test_a_sweep_stops_a_trial_for_good(
    server: WandbServer, script: Command, here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    process = start((*ONLINE, "run_dir=run"), workplace, environment)
    wait_for_step(workplace / "run", 9, process)
    (workplace / "run" / "early-stop").write_text("hyperband: worse than half of the trials\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert summary_of(workplace / "run")["status"] == "stopped"
    assert "test/accuracy" not in summary_of(workplace / "run")
    assert only_run(server).record["tags"] == ["early-stopped"]
    assert only_run(server).exit_code == 0
    again = here("train.py", *ONLINE, "run_dir=run")
    assert again.returncode == 0
    assert "this run was stopped early" in again.stderr
    on = script("train.py", "resume=run")
    assert on.returncode == 0, on.stderr
    assert_whole(server, workplace / "run")


def train_process(agent: int, run: Path, *, rows: int = 2) -> int:
    """The process of an agent's trial, once there are more than so many rows of metrics."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        trials = [pid for pid in children if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if trials and (run / "metrics.csv").is_file() and len(rows_of(run)) > rows:
            return int(trials[0])
        time.sleep(0.05)
    raise AssertionError("the trial took no step")


@pytest.mark.slow
def test_an_agents_stop_is_told_from_a_clusters_signal(
    server: WandbServer, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    # `${interpreter}` is plain `python`, as in a virtual environment that is activated.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONPATH"] = told_at_once(tmp_path)
    path = sweep_file(workplace, tracking="auto", project="films", run_cap=1)
    endless = "".join(f"- {argument}\n" for argument in ENDLESS)
    path.write_text(path.read_text().replace("- resume=auto\n", f"{endless}- resume=auto\n"))
    registered = [sys.executable, "-m", "wandb", "sweep", str(path)]
    subprocess.run(registered, cwd=workplace, env=environment, capture_output=True, timeout=60, check=True)
    (sweep,) = server.sweeps.values()
    command = [*QUICK_AGENT, f"tester/films/{sweep.id}"]
    agent = subprocess.Popen(command, cwd=workplace, env=environment, stdout=subprocess.DEVNULL)
    run = workplace / "runs" / sweep.id / wait_for_run(server)
    trial = train_process(agent.pid, run)
    os.kill(trial, signal.SIGUSR1)
    deadline = time.monotonic() + STOP_POLL - 4
    while Path(f"/proc/{trial}/cmdline").exists() and Path(f"/proc/{trial}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "it has waited for W&B's word"
        time.sleep(0.05)
    assert "pre-empted" in (run / "train.log").read_text()
    # The sweep hands it out again, and stops it.
    assert train_process(agent.pid, run, rows=len(rows_of(run))) != trial
    only_run(server).stopped = True
    assert agent.wait(timeout=90) == 0
    assert len(sweep.handed_out) == 2
    assert summary_of(run)["status"] == "stopped"
    assert only_run(server).record["tags"] == ["early-stopped"]
    assert (only_run(server).exit_code, only_run(server).state) == (0, "finished")


def wait_for_run(server: WandbServer) -> str:
    """The id of the server's only run, once there is one."""
    deadline = time.monotonic() + 60
    while not server.runs:
        assert time.monotonic() < deadline, "no run has started"
        time.sleep(0.05)
    return only_run(server).id


@pytest.mark.slow
def test_a_person_stops_a_run_in_wandb(
    server: WandbServer, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PYTHONPATH"] = told_at_once(tmp_path)
    process = start((*ONLINE, "run_dir=run", *ENDLESS), workplace, environment)
    wait_for_step(workplace / "run", 3, process)
    only_run(server).stopped = True
    assert process.wait(timeout=60) == 0, "the client has asked"
    assert summary_of(workplace / "run")["status"] == "stopped"
    assert only_run(server).record["tags"] == ["early-stopped"]
    assert (workplace / "run" / "early-stop").is_file()


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_everything(
    server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    process = start((*LONGEST, "tracking=auto", "run_dir=run"), workplace, environment)
    wait_for_step(workplace / "run", 9, process)
    server.die()
    wait_for_step(workplace / "run", 100, process)  # it goes on without
    time.sleep(4)  # the client has tried several times
    server.come_back()
    assert process.wait(timeout=120) == 0
    assert_whole(server, workplace / "run")


@pytest.mark.slow
def test_a_server_that_dies_for_good_costs_nothing(
    server: WandbServer, script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    environment["WANDB_FINISH_TIMEOUT"] = "3"
    process = start((*ONLINE, "run_dir=run"), workplace, environment)
    wait_for_step(workplace / "run", 9, process)
    server.die()
    assert process.wait(timeout=60) == 0
    assert summary_of(workplace / "run")["status"] == "finished"
    (files,) = (workplace / "run" / "wandb").glob("run-*")
    assert f"wandb sync --no-skip-online {files}" in (workplace / "run" / "train.log").read_text()
    with WandbServer() as other:
        log_in(environment, other)
        sync(environment, files)
        assert_whole(other, workplace / "run")
    log_in(environment, server)
    server.come_back()
    assert len(only_run(server).rows) < len(rows_of(workplace / "run"))
    server.refusal = 503  # it answers, and takes nothing
    refused = script("train.py", "resume=run", WANDB_INIT_TIMEOUT="2")
    assert refused.returncode == 2, refused.stderr
    assert "W&B did not take the run" in refused.stderr
    assert (workplace / "run" / "wandb-unsent").is_file()
    server.refusal = None
    server.faults = [Fault("PUT artifact", 403, times=None)]  # it takes rows, and neither tables nor models
    partly = script("train.py", "resume=run")
    assert partly.returncode == 0, partly.stderr
    lacks = re.search(r"W&B lacks (\d+) artifacts .*To upload it: python train.py resume=run;", partly.stderr)
    assert lacks is not None, partly.stderr
    assert [row["_step"] for row in only_run(server).rows] == [row["_step"] for row in rows_of(workplace / "run")]
    assert server.artifact(f"gru-{only_run(server).id}:best") is None
    server.faults.clear()
    done = script("train.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert "W&B now has the whole run" in done.stderr
    assert_whole(server, workplace / "run")
    model = server.artifact(f"gru-{only_run(server).id}:best")
    assert model is not None
    assert model.files["best.ckpt"] == (workplace / "run" / "checkpoints" / "best.ckpt").read_bytes()
    tables = {artifact.collection: artifact for artifact in server.artifacts.values() if artifact.type == "run_table"}
    charts = ("accuracy_by_length_table", "confusion_matrix_table", "mistakes", "precision_recall_table", "roc_table")
    assert set(tables) == {table_artifact(only_run(server).id, f"test/{chart}") for chart in charts}
    assert all(artifact.version is not None for artifact in tables.values())
    assert int(lacks[1]) == len(charts) + 1


@pytest.mark.slow
def test_a_client_that_dies_costs_nothing(
    server: WandbServer, script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    process = start((*ONLINE, "run_dir=run"), workplace, environment)
    wait_for_step(workplace / "run", 9, process)
    os.kill(wandb_core(process.pid), signal.SIGKILL)
    assert process.wait(timeout=60) == 0
    assert "W&B's client has died" in (workplace / "run" / "train.log").read_text()
    assert script("train.py", "resume=run").returncode == 0
    assert_whole(server, workplace / "run")


@pytest.mark.slow
def test_offline_parts_of_a_run_are_synced_into_one(
    script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    process = start((*ONLINE, "run_dir=run"), workplace, environment)
    wait_for_step(workplace / "run", 9, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert script("train.py", *ONLINE, "run_dir=run").returncode == 0
    parts = sorted((workplace / "run" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    with WandbServer() as server:
        log_in(environment, server)
        for part in parts:
            sync(environment, part)
        assert_whole(server, workplace / "run")


@pytest.mark.slow
def test_jobs_of_a_multirun_are_runs_of_one_group(server: WandbServer, script: Command) -> None:
    done = script("train.py", "-m", *SMALL, "tracking=auto", "seed=0,1", "run_dir=jobs", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert sorted(run.record["displayName"] for run in server.runs.values()) == ["gru-8x1-bi s0", "gru-8x1-bi s1"]
    assert {run.record["groupName"] for run in server.runs.values()} == {"jobs"}
    assert {run.exit_code for run in server.runs.values()} == {0}
    assert all(run.rows for run in server.runs.values())


@pytest.mark.slow
def test_two_processes_are_one_run_named_by_the_environment_and_no_key_is_written(
    server: WandbServer, script: Command, here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    environment |= {
        "WANDB_PROJECT": "films",
        "WANDB_NAME": "mine",
        "WANDB_RUN_GROUP": "tuesday",
        "WANDB_JOB_TYPE": "try",
        "WANDB_NOTES": "why",
        "WANDB_TAGS": "a,b",
    }
    two = ("trainer.devices=2", "trainer.strategy=ddp", "run_dir=run", "trainer.max_epochs=1")
    done = script("train.py", *SMALL, "tracking=auto", *two, "tracking.job_type=typed")
    assert done.returncode == 0, done.stderr
    run = only_run(server)
    # What is typed goes before the environment.
    said = {name: run.record[name] for name in ("displayName", "groupName", "jobType", "notes", "tags")}
    assert said == {
        "displayName": "mine",
        "groupName": "tuesday",
        "jobType": "typed",
        "notes": "why",
        "tags": ["a", "b"],
    }
    assert run.project == "films"
    assert_whole(server, workplace / "run")
    files = [path for path in workplace.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in json.dumps(run.record) + str(run.files)
    assert not re.search(KEY, done.stdout + done.stderr)
    refused = here("train.py", *SMALL, "tracking=auto", WANDB_PROJECT="a/b")
    assert refused.returncode == 2
    assert "WANDB_PROJECT='a/b'" in refused.stderr
