"""Sweeps with an account: our command, real agents, real trials, and a W&B server on the loopback interface."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from doubles.quick_agent import told_at_once
from doubles.sweep_runs import broken, leaderboard, start, sweep_directory, sweep_file, wait
from doubles.tracked_runs import KEY, log_in
from doubles.wandb_server import Fault, WandbServer

from textrnn.base.locks import FileLock

TRIAL = """
import json, os, pathlib, time
run = pathlib.Path("runs", os.environ["WANDB_SWEEP_ID"], os.environ["WANDB_RUN_ID"])
run.mkdir(parents=True)
(run / "begun").touch()
while not pathlib.Path("over").exists():
    time.sleep(0.05)
(run / "summary.json").write_text(json.dumps({"status": "finished"}))
"""
"""The program of a sweep without training, whose trials end when there is a file `over`."""


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[WandbServer]:
    """An account on a server that answers; an operation that the double doesn't know fails the test."""
    with WandbServer() as running:
        log_in(environment, running)
        yield running


def told(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=200)[0]


@pytest.mark.slow
def test_agents_run_a_registered_sweep(server: WandbServer, workplace: Path, environment: dict[str, str]) -> None:
    parameters = {"optimizer.lr": {"values": [0.5, 0.01, 0.02]}}
    path = sweep_file(workplace, tracking="auto", project="plays", parameters=parameters)
    environment["PYTHONPATH"] = broken(workplace, "optimizer.lr=0.5")
    process = start([str(path), "--agents", "2", "tracking.project=films"], workplace, environment)
    output = told(process)
    assert process.returncode == 1, output  # whatever the agents say: one trial has failed
    (sweep,) = server.sweeps.values()
    assert (sweep.project, sweep.config["parameters"]) == ("films", parameters)
    directory = sweep_directory(workplace)
    assert directory.name == sweep.id
    rows = leaderboard(directory)
    assert [(row["rank"], row["status"]) for row in rows] == [("1", "finished"), ("2", "finished"), ("", "failed")]
    assert rows[-1]["reason"] == "exit code 1: RuntimeError: planted"
    assert {row["run"] for row in rows} == {run.id for run in sweep.runs}
    for row in rows[:2]:
        run = server.runs[row["run"]]
        assert run.state == "finished"
        losses = [line["val/loss"] for line in run.rows if "val/loss" in line]
        assert min(losses) == pytest.approx(float(row["best val/loss"]))
        assert run.config["optimizer.lr"] == float(row["optimizer.lr"])
        assert f"({run.id}) starts: optimizer.lr={row['optimizer.lr']}" in output
    assert len({agent for agent, _ in sweep.handed_out}) == 2
    best = yaml.safe_load((directory / "best.yaml").read_text())
    assert best["optimizer"]["lr"] == float(rows[0]["optimizer.lr"])
    assert KEY not in output + "".join(
        file.read_text(errors="replace") for file in directory.rglob("*") if file.is_file()
    )


@pytest.mark.slow
def test_a_trial_that_w_and_b_does_not_take_has_failed(
    server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    path = sweep_file(workplace, tracking="auto")
    environment |= {"PYTHONPATH": broken(workplace), "WANDB_INIT_TIMEOUT": "3"}
    server.faults.append(Fault("UpsertBucket", 429, times=None))
    process = start([str(path)], workplace, environment)
    output = told(process)
    assert process.returncode == 1, output
    (row,) = leaderboard(sweep_directory(workplace))
    assert row["status"] == "failed"
    assert "W&B did not take the run" in row["reason"]
    assert not list(sweep_directory(workplace).glob("*/wandb/offline-run-*"))


@pytest.mark.slow
def test_ctrl_c_preempts_and_resume_goes_on_also_from_another_folder(
    server: WandbServer, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PYTHONPATH"] = told_at_once(tmp_path, patience=3)
    path = sweep_file(workplace, tracking="auto", parameters={"optimizer.lr": {"values": [0.01]}})
    long = ["trainer.max_epochs=12", "early_stopping.patience=null"]
    process = start([str(path), *long], workplace, environment)
    wait(process, lambda: any(file.read_text().count("\n") > 3 for file in workplace.glob("runs/*/*/metrics.csv")))
    process.send_signal(signal.SIGINT)
    output = told(process)
    assert process.returncode == 130, output
    (row,) = leaderboard(sweep_directory(workplace))
    assert (row["status"], row["rank"]) == ("preempted", "")
    (run,) = server.runs.values()
    assert run.state == "preempted"
    again = start(["--resume", str(sweep_directory(workplace))], tmp_path, environment)
    output = told(again)
    assert again.returncode == 0, output
    assert not (tmp_path / "runs").exists()
    assert "resumes: optimizer.lr=0.01" in output
    (row,) = leaderboard(sweep_directory(workplace))
    assert row["status"] == run.state == "finished"
    summary = json.loads((workplace / row["run_dir"] / "summary.json").read_text())
    assert run.rows[-1]["_step"] == summary["step"]


@pytest.mark.slow
def test_a_killed_sweep_trains_on_and_resume_takes_up_all_of_it(
    server: WandbServer, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PYTHONPATH"] = broken(tmp_path, "trainer.max_epochs=3")
    path = sweep_file(workplace, tracking="auto", parameters={"trainer.max_epochs": {"values": [20, 3, 2]}})
    process = start([str(path), "early_stopping.patience=null"], workplace, environment)
    wait(process, lambda: bool(list(workplace.glob("runs/*/*/metrics.csv"))))
    process.kill()
    process.communicate()
    directory = sweep_directory(workplace)
    # One agent runs; a second worker's would be free, and must not be started beside it.
    refused = start(["--resume", str(directory), "--agents", "2"], workplace, environment)
    output = told(refused)
    assert refused.returncode == 2, output
    assert "an agent of an earlier sweep.py still runs" in output
    assert not (directory / "agents" / "1").exists()

    lock = FileLock(directory / "agents" / "0" / "agent.lock")
    deadline = time.monotonic() + 120
    while lock.is_held():
        assert time.monotonic() < deadline, "the agent does not end"
        time.sleep(0.2)
    (sweep,) = server.sweeps.values()
    assert len(sweep.handed_out) == 3, (directory / "agents" / "0" / "agent.log").read_text()
    again = start(["--resume", str(directory)], workplace, environment)
    output = told(again)
    assert again.returncode == 1, output  # one of the trials has failed
    assert len(sweep.handed_out) == 3, "nothing is repeated"
    rows = leaderboard(directory)
    assert [row["run"] for row in sorted(rows, key=lambda row: int(row["trial"]))] == [run.id for run in sweep.runs]
    assert [(row["rank"], row["status"]) for row in rows] == [("1", "finished"), ("2", "finished"), ("", "failed")]
    assert (rows[-1]["trainer.max_epochs"], rows[-1]["reason"]) == ("3", "exit code 1: RuntimeError: planted")
    assert all(float(row["seconds"]) > 1 for row in rows[:2])
    for row in rows:  # the one that crashed before its first value is started again, and crashes again
        lines = [line for line in output.splitlines() if line.startswith(f"trial {row['trial']} f")]
        assert len(lines) == (2 if row["status"] == "failed" else 1)
    assert (directory / "best.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), [("cancelled", "stopped"), ("deleted", "finished")])
def test_a_sweep_that_somebody_ends_in_wandb(
    server: WandbServer, workplace: Path, environment: dict[str, str], end: str, status: str
) -> None:
    (workplace / "trial.py").write_text(TRIAL)
    environment["PYTHONPATH"] = broken(workplace)
    parameters = {"optimizer.lr": {"values": [0.01, 0.02, 0.03]}}
    path = sweep_file(workplace, program="trial.py", tracking="auto", parameters=parameters)
    process = start([str(path)], workplace, environment)
    wait(process, lambda: bool(list(workplace.glob("runs/*/*/begun"))))
    (sweep,) = server.sweeps.values()
    if end == "cancelled":
        sweep.state = "CANCELED"  # by `wandb sweep --cancel`, or in the browser
    else:
        server.sweeps.clear()
        time.sleep(2)  # its agent asks and gets 404, and lets the trial end
        (workplace / "over").touch()
    output = told(process)
    assert process.returncode == 1, output
    assert f"stopped: the sweep was {end} in W&B" in output.splitlines()
    assert "resume:" not in output
    (row,) = leaderboard(sweep_directory(workplace))
    assert (row["status"], row["reason"]) == (status, "stopped through W&B" if end == "cancelled" else "")


@pytest.mark.parametrize("refusal", [401, 403])
def test_a_bad_key_and_no_permission_are_one_sentence(
    server: WandbServer, workplace: Path, environment: dict[str, str], refusal: int
) -> None:
    server.refusal = refusal
    process = start([str(sweep_file(workplace, tracking="auto"))], workplace, environment)
    output = told(process)
    assert process.returncode == 2, output
    (sentence,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "W&B refuses the sweep" in sentence
    assert "Traceback" not in output
    assert not (workplace / "runs").exists()


def test_where_no_directory_can_be_made_nothing_is_made_at_wandb(
    server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "runs").touch()
    process = start([str(sweep_file(workplace, tracking="auto"))], workplace, environment)
    output = told(process)
    assert process.returncode == 2, output
    (sentence,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert f"{workplace}/runs is not a folder" in sentence
    assert server.sweeps == {}
