"""The loopback server's sweeps, with the real `wandb sweep` and `wandb agent` on the other side."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from doubles.quick_agent import QUICK_AGENT
from doubles.wandb_server import ServerSweep, WandbServer

TRIAL = """
import signal, sys, time
from pathlib import Path
import wandb
values = dict(argument.split("=") for argument in sys.argv[1:])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
with wandb.init(resume="allow") as run:
    for step in range(run.starting_step, int(values.get("steps", 2))):
        run.log({"val/loss": float(values.get("lr", 0)) + 1 / (step + 1)}, step=step)
        if values.get("moves") and not run.starting_step:
            run.mark_preempting()
            sys.exit(1)
        if "seconds" in values:
            time.sleep(float(values["seconds"]))
        if stop:
            break
    run.summary["stopped"] = bool(stop)
"""


@pytest.fixture
def quick(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    """The server and the trial's program, in a client's working directory, with history sent every second."""
    Path("trial.py").write_text(TRIAL)
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
    return server


def _register(server: WandbServer, **config: object) -> ServerSweep:
    command = [sys.executable, "${program}", "${args_no_hyphens}"]
    metric = {"name": "val/loss", "goal": "minimize"}
    Path("sweep.yaml").write_text(
        yaml.safe_dump({"program": "trial.py", "command": command, "metric": metric, **config})
    )
    register = [sys.executable, "-m", "wandb", "sweep", "--project", "films", "sweep.yaml"]
    said = subprocess.run(register, check=True, timeout=60, capture_output=True, text=True).stderr
    sweep = list(server.sweeps.values())[-1]
    assert f"wandb agent tester/films/{sweep.id}" in said
    return sweep


@contextmanager
def _agent(sweep: ServerSweep, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """An agent at work, which doesn't outlive the test."""
    command = [*QUICK_AGENT, *options, f"tester/films/{sweep.id}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def test_two_agents_share_a_grid(quick: WandbServer) -> None:
    parameters = {"lr": {"values": [0.5, 0.25]}, "seed": {"values": [0, 1]}}
    sweep = _register(quick, method="grid", parameters=parameters)
    with _agent(sweep, "--count", "2") as first, _agent(sweep, "--count", "2") as second:
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert {agent for agent, _ in sweep.handed_out} == {"agent001", "agent002"}
    runs = quick.runs.values()
    grid = [(lr, seed) for lr in (0.25, 0.5) for seed in (0, 1)]
    assert sorted((run.parameters["lr"], run.parameters["seed"]) for run in runs) == grid
    for run in runs:
        assert [row["val/loss"] - run.parameters["lr"] for row in run.rows] == [1, 0.5]
        assert (run.state, run.record["sweep"], run.config) == ("finished", sweep.id, run.parameters)

    api: Any = wandb.Api()  # its sweeps have no types
    read = api.sweep(f"tester/films/{sweep.id}")
    assert {run.id for run in read.runs} == {run.id for run in runs}
    assert read.config["parameters"] == parameters
    best = read.best_run()
    assert (best.summary["val/loss"], best.config["lr"]) == (0.75, 0.25)
    stop = [sys.executable, "-m", "wandb", "sweep", "--stop", f"tester/films/{sweep.id}"]
    subprocess.run(stop, check=True, timeout=60, capture_output=True)
    assert read.load(force=True)["state"] == "FINISHED"


def test_bayes_stays_in_range_and_run_cap_ends_the_agent(quick: WandbServer) -> None:
    parameters = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "hidden": {"min": 8, "max": 64},
        "cell": {"values": ["gru", "lstm"]},
        "steps": {"value": 1},
    }
    sweep = _register(quick, method="bayes", parameters=parameters, run_cap=3)
    with _agent(sweep) as agent:
        assert agent.wait(60) == 0
    assert (len(sweep.runs), len(quick.runs), sweep.state) == (3, 3, "FINISHED")
    for run in sweep.runs:
        values = run.parameters
        assert 1e-4 <= values["lr"] <= 1e-1
        assert type(values["hidden"]) is int
        assert 8 <= values["hidden"] <= 64
        assert values["cell"] in ("gru", "lstm")
        assert (run.state, run.summary["val/loss"]) == ("finished", values["lr"] + 1)
    assert len({run.parameters["lr"] for run in sweep.runs}) == 3


def test_hyperband_stops_a_weak_trial_while_it_runs(quick: WandbServer) -> None:
    sweep = _register(
        quick,
        method="grid",
        parameters={"lr": {"values": [0.0, 5.0]}, "steps": {"value": 600}, "seconds": {"value": 0.1}},
        early_terminate={"type": "hyperband", "min_iter": 2},
    )
    with _agent(sweep, "--count", "1") as first:
        while not sweep.runs or len(sweep.runs[0].history) < 10:
            assert first.poll() is None
            time.sleep(0.1)
        with _agent(sweep, "--count", "1") as second:
            assert second.wait(60) == 0
        strong, weak = sweep.runs
        assert (strong.stopped, strong.state) == (False, "running")
        strong.stopped = True  # as by hand; its agent is told too
        assert first.wait(60) == 0
    for run in (weak, strong):
        assert (run.stopped, run.state, run.summary["stopped"]) == (True, "finished", True)
        assert len(run.history) < 600


def test_a_preempted_trial_is_handed_out_again(quick: WandbServer) -> None:
    sweep = _register(quick, method="grid", parameters={"moves": {"values": ["yes"]}, "steps": {"value": 3}})
    with _agent(sweep) as agent:
        assert agent.wait(60) == 0
    (run,) = sweep.runs
    assert sweep.handed_out == [("agent001", run.id)] * 2
    assert [row["_step"] for row in run.rows] == [0, 1, 2]
    assert (run.state, run.exit_code, sweep.state) == ("finished", 0, "FINISHED")
