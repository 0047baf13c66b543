"""What an agent writes of its trials."""

import json
import signal
from pathlib import Path

import pytest
import yaml
from doubles.sweeps_made import sweep, trial
from doubles.wandb_server import WandbServer

from textrnn.sweeping.agents import (
    CANCELLED,
    DELETED,
    FORGOTTEN,
    STOPPED,
    RecordedTrials,
    end_in_wandb,
    give_out_again,
    left_to_us,
)
from textrnn.sweeping.trials import SweepDirectory
from textrnn.tracking.summary import Status


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    monkeypatch.chdir(tmp_path)
    return SweepDirectory.create(sweep(), "tester/films/sweep001")


@pytest.mark.parametrize(
    ("code", "killed", "stopped", "status", "reason"),
    [
        (1, False, False, Status.FAILED, "exit code 1: ValueError: x"),
        (-signal.SIGKILL, False, False, Status.FAILED, "exit code -9: ValueError: x"),
        (-signal.SIGKILL, True, False, Status.INTERRUPTED, None),  # after a second Ctrl-C
        (-signal.SIGKILL, True, True, Status.STOPPED, "stopped through W&B"),
        (-signal.SIGTERM, False, False, Status.PREEMPTED, None),
    ],
)
def test_how_a_trial_has_ended_is_in_its_file(
    directory: SweepDirectory, code: int, killed: bool, stopped: bool, status: Status, reason: str | None
) -> None:
    trials = RecordedTrials(directory, 1)
    trials.begin("run1", {"seed": 1}).write_text("ValueError: x\n")
    trials.end("run1", code, killed, stopped)
    (found,) = directory.trials()
    assert (found.status, found.exit_code, found.reason, found.worker) == (status, code, reason, 1)
    assert directory.run_directory(found).early_stop.is_file() == stopped


def test_two_agents_number_their_trials_together(directory: SweepDirectory) -> None:
    first, second = RecordedTrials(directory, 0), RecordedTrials(directory, 1)
    first.begin("run1", {"seed": 1})
    second.begin("run2", {"seed": 2})
    second.end("run2", 75, False, False)
    first.begin("run2", {"seed": 2, "_wandb": {}})  # pre-empted, and handed out again with its whole config
    assert [(trial.number, trial.parameters, trial.worker) for trial in directory.trials()] == [
        (1, {"seed": 1}, 0),
        (2, {"seed": 2}, 0),
    ]


def test_why_wandb_has_no_more_trials(server: WandbServer) -> None:
    registered = {"projectName": "films", "config": yaml.safe_dump(sweep().config)}
    name = server.answer("UpsertSweep", registered)["upsertSweep"]["sweep"]["id"]
    ends = {"RUNNING": FORGOTTEN, "FINISHED": STOPPED, "CANCELED": CANCELLED}  # of its six trials none was handed out
    for state, end in ends.items():
        server.sweeps[name].state = state
        assert end_in_wandb(f"films/{name}") == end
    server.sweeps[name].config["run_cap"] = 0
    server.sweeps[name].state = "FINISHED"
    assert end_in_wandb(f"films/{name}") == 0
    server.sweeps.clear()
    assert end_in_wandb(f"films/{name}") == DELETED


def test_trials_that_wandb_gives_to_no_agent(server: WandbServer) -> None:
    registered = {"projectName": "films", "config": yaml.safe_dump(sweep().config)}
    name = server.answer("UpsertSweep", registered)["upsertSweep"]["sweep"]["id"]
    agent = server.answer("CreateAgent", {"sweep": name})["createAgent"]["agent"]["id"]
    for _ in range(6):
        server.answer("Heartbeat", {"id": agent})
    runs = server.sweeps[name].runs
    for run in runs:
        run.started = True
    preempted, finished, failed, *running = runs
    preempted.preempting, preempted.exit_code = True, 75
    finished.exit_code, failed.exit_code = 0, 1
    trials = [trial(number, {}, Status.FAILED) for number in range(7)]
    for made, run in zip(trials, runs, strict=False):
        made.run_id = run.id
    trials[3].exit_code = -9  # it was seen to end: W&B has only not missed its heartbeats yet
    assert left_to_us(f"tester/films/{name}", trials) == [trials[1], trials[2], trials[3]]
    assert len(running) == 3
    server.sweeps[name].state = "FINISHED"
    assert left_to_us(f"tester/films/{name}", trials[:3]) == trials[:3]
    server.sweeps[name].state = "CANCELED"
    assert left_to_us(f"tester/films/{name}", trials) == []
    server.sweeps.clear()
    assert left_to_us(f"tester/films/{name}", trials) == []


def test_a_trial_that_is_pre_empted_after_the_last_one_was_given_out_is_given_out_again(
    server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {**sweep().config, "method": "grid", "parameters": {"seed": {"values": [1, 2]}}}
    registered = {"projectName": "films", "config": yaml.safe_dump(config)}
    name = server.answer("UpsertSweep", registered)["upsertSweep"]["sweep"]["id"]
    path, made = f"tester/films/{name}", server.sweeps[name]
    agent = server.answer("CreateAgent", {"sweep": name})["createAgent"]["agent"]["id"]

    def command() -> str:
        told: str = json.loads(server.answer("Heartbeat", {"id": agent})["agentHeartbeat"]["commands"])[0]["type"]
        return told

    assert [command(), command(), command()] == ["run", "run", "exit"]
    give_out_again(path)
    assert (made.state, capfd.readouterr().out) == ("FINISHED", "")  # both run
    preempted, finished = made.runs
    preempted.started, preempted.preempting, preempted.exit_code, finished.exit_code = True, True, 75, 0
    assert command() == "exit"
    give_out_again(path)
    assert f"pre-empted trials wait: {preempted.id}" in capfd.readouterr().out
    assert [command(), made.handed_out[-1][1]] == ["resume", preempted.id]
    preempted.preempting, preempted.exit_code, made.state = True, 75, "FINISHED"
    made.config["method"] = "random"
    for cap in (3, None):  # `wandb sweep --stop`: one was not given out; a search without an end has no other one
        made.config.pop("run_cap", None)
        made.config |= {} if cap is None else {"run_cap": cap}
        for state in ("FINISHED", "CANCELED", "PAUSED"):
            made.state = state
            give_out_again(path)
            assert made.state == state
    server.sweeps.clear()
    give_out_again(path)
