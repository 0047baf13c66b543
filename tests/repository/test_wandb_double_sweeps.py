"""The contract of the loopback W&B server for sweeps, with the real `wandb sweep` and `wandb agent`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
import yaml
from doubles.quick_agent import QUICK_AGENT
from doubles.wandb_server import ServerSweep, WandbServer

TRIAL = """
import signal, sys, time
import wandb
# Of a pre-empted trial W&B's whole config is typed, whose values may have = in them.
values = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
with wandb.init(resume="allow") as run:
    for step in range(run.starting_step, int(values.get("steps", 2))):
        run.log({"val/loss": float(values.get("lr", 0)) + 1 / (step + 1)}, step=step)
        if values.get("preempted") == values["lr"] and not run.starting_step:
            run.mark_preempting()
            sys.exit(1)
        if "seconds" in values:
            time.sleep(float(values["seconds"]))
        if stop:
            break
    run.summary["stopped"] = bool(stop)
"""


def _register(server: WandbServer, **config: object) -> ServerSweep:
    """Register a sweep of `TRIAL` with `wandb sweep`, in the working directory."""
    Path("trial.py").write_text(TRIAL)
    command = [sys.executable, "${program}", "${args_no_hyphens}"]
    metric = {"name": "val/loss", "goal": "minimize"}
    file = {"program": "trial.py", "command": command, "metric": metric, **config}
    Path("sweep.yaml").write_text(yaml.safe_dump(file))
    register = [sys.executable, "-m", "wandb", "sweep", "--project", "films", "sweep.yaml"]
    output = subprocess.run(register, check=True, timeout=60, capture_output=True, text=True).stderr
    sweep = list(server.sweeps.values())[-1]
    assert f"wandb agent tester/films/{sweep.id}" in output
    return sweep


@contextmanager
def _agent(sweep: ServerSweep, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A running agent, which doesn't outlive the test."""
    command = [*QUICK_AGENT, *options, f"tester/films/{sweep.id}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def test_agents_share_a_grid_and_a_preempted_trial_is_handed_out_again(quick: WandbServer) -> None:
    parameters = {"lr": {"values": [0.5, 0.25]}, "seed": {"values": [1]}, "preempted": {"value": 0.5}}
    sweep = _register(quick, method="grid", parameters=parameters)
    for options in (("--count", "1"), ()):
        assert sweep.state == "RUNNING"
        with _agent(sweep, *options) as agent:
            assert agent.wait(60) == 0
    assert sweep.state == "FINISHED"
    moved, other = sweep.runs
    assert sweep.handed_out == [("agent001", moved.id), ("agent002", moved.id), ("agent002", other.id)]
    assert list(quick.runs.values()) == [moved, other]
    for run, lr in ((moved, 0.5), (other, 0.25)):
        assert run.parameters == {"lr": lr, "seed": 1, "preempted": 0.5}
        assert [(row["_step"], row["val/loss"] - lr) for row in run.rows] == [(0, 1), (1, 0.5)]
        assert (run.state, run.exit_code, run.config) == ("finished", 0, run.parameters)
        assert run.record["sweep"] == sweep.id

    api: Any = wandb.Api()  # its sweeps have no types
    read = api.sweep(f"tester/films/{sweep.id}")
    assert {run.id for run in read.runs} == {moved.id, other.id}
    assert read.config["parameters"] == parameters
    best = read.best_run()
    assert (best.summary["val/loss"], best.config["lr"]) == (0.75, 0.25)


def test_bayes_stays_in_range_and_run_cap_ends_the_agent(quick: WandbServer) -> None:
    parameters = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "hidden": {"min": 8, "max": 64},
        "cell": {"values": ["gru", "lstm"]},
        "steps": {"value": 1},
    }
    sweep = _register(quick, method="bayes", parameters=parameters, run_cap=2)
    with _agent(sweep) as agent:
        assert agent.wait(60) == 0
    assert (len(sweep.runs), len(quick.runs), sweep.state) == (2, 2, "FINISHED")
    for run in sweep.runs:
        values = run.parameters
        assert 1e-4 <= values["lr"] <= 1e-1
        assert type(values["hidden"]) is int
        assert 8 <= values["hidden"] <= 64
        assert values["cell"] in ("gru", "lstm")
        assert (run.state, run.summary["val/loss"]) == ("finished", values["lr"] + 1)
    assert len({run.parameters["lr"] for run in sweep.runs}) == 2


def test_hyperband_and_a_stop_request_end_trials_while_they_run(quick: WandbServer) -> None:
    sweep = _register(
        quick,
        method="grid",
        parameters={"lr": {"values": [0.0, 5.0, 9.0]}, "steps": {"value": 600}, "seconds": {"value": 0.1}},
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
        strong.stopped = True  # as in the web page; its agent is asked to stop it too
        assert first.wait(60) == 0
    for run in (weak, strong):
        assert (run.stopped, run.state, run.summary["stopped"]) == (True, "finished", True)
        assert len(run.history) < 600
    stop = [sys.executable, "-m", "wandb", "sweep", "--stop", f"tester/films/{sweep.id}"]
    subprocess.run(stop, check=True, timeout=60, capture_output=True)
    api: Any = wandb.Api()
    assert api.sweep(f"tester/films/{sweep.id}").state == "FINISHED"
