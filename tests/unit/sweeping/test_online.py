"""What `--resume` makes of agents' logs after both `sweep.py` and they were killed, and when it refuses."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from doubles.sweeps_made import metric, sweep, trial

from textrnn.base.errors import InputError
from textrnn.base.files import FileLock
from textrnn.sweeping import online
from textrnn.sweeping.agents import AgentLog
from textrnn.sweeping.online import OnlineSweep
from textrnn.sweeping.processes import Worker
from textrnn.sweeping.trials import SweepDirectory, Trial
from textrnn.tracking.run_directory import LOCK_NAME
from textrnn.tracking.summary import Status

BEGUN = 1_750_000_000


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SweepDirectory]:
    monkeypatch.chdir(tmp_path)
    made = SweepDirectory.create(sweep(), "tester/films/sweep001")
    yield made
    made.release()


def logged(directory: SweepDirectory, number: int, *lines: tuple[int, str]) -> AgentLog:
    """What agent `number` left: (seconds since BEGUN, what it said), and the parameters of each of its trials."""
    log = AgentLog(directory.path / "agents" / str(number), "sweep001")
    given = log.folder / "wandb" / "sweep-sweep001"
    given.mkdir(parents=True, exist_ok=True)
    for after, said in lines:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(BEGUN + after))
        with log.path.open("a") as file:
            own = said.startswith(("About", "Running", "Cleaning"))
            file.write(f"{stamp},000 - wandb.wandb_agent - INFO - {said}\n" if own else f"{said}\n")
        if said.startswith("Running runs: ['"):
            run = said.split("'")[1]
            content = {"wandb_version": 1, "seed": {"value": int(run[-1])}}
            (given / f"config-{run}.yaml").write_text(yaml.safe_dump(content))
    return log


def summarised(directory: SweepDirectory, run: str, status: str, after: int) -> None:
    path = directory.path / run / "summary.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"status": status}))
    os.utime(path, (BEGUN + after, BEGUN + after))


def resumed(directory: SweepDirectory) -> dict[str, Trial]:
    """The trials on disk after a resumed sweep to which no worker was left."""
    OnlineSweep("tester/films/sweep001", metric(), directory, []).run()
    return {found.run_id: found for found in directory.trials()}


def test_a_trial_that_ends_before_its_agent_looks_has_run_since_its_start(directory: SweepDirectory) -> None:
    directory.save(trial(1, {"seed": 1}, Status.RUNNING))
    ended = (5, "Running runs: ['run1']"), (7, "Cleaning up finished run: run1")
    logged(directory, 0, (0, "About to run command: python train.py"), *ended)
    summarised(directory, "run1", "finished", after=3)
    found = resumed(directory)["run1"]
    assert (found.status, found.seconds) == (Status.FINISHED, 7.0)


def test_an_agent_that_dies_is_told(directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died:
        exit_code = 1

        def __init__(self, path: str, log: AgentLog, environment: dict[str, str]) -> None:
            self.log = log
            log.folder.mkdir(parents=True, exist_ok=True)
            log.path.write_text("wandb.errors.CommError: no answer\n")

        def has_ended(self) -> bool:
            return True

    monkeypatch.setattr(online, "Agent", Died)
    directory.save(trial(1, {"seed": 1}, Status.FINISHED))
    sweep = OnlineSweep("tester/films/sweep001", metric(), directory, [Worker(environment={})])
    assert sweep.run() == 1
    assert sweep.stop_reason == "1 of 1 agents died; the last line: wandb.errors.CommError: no answer"


@pytest.mark.parametrize("deaths", [1, 3])
def test_an_agent_that_dies_after_a_trial_is_replaced_so_many_times(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], deaths: int
) -> None:
    """Its first trial has ended when it dies, and it could not say so any more."""
    monkeypatch.setattr(online, "DEATHS", 3)
    monkeypatch.setattr(online, "FIRST_WAIT", 0.01)
    begun: list[AgentLog] = []

    class Mortal:
        def __init__(self, path: str, log: AgentLog, environment: dict[str, str]) -> None:
            begun.append(log)
            self.log, self.exit_code = log, int(len(begun) <= deaths)
            now = int(time.time()) - BEGUN
            if len(begun) == 1:
                logged(directory, 0, (now, "Running runs: ['run1']"), (0, "wandb.errors.CommError: no answer"))
                summarised(directory, "run1", "finished", after=now + 1)
            if len(begun) > deaths:
                logged(directory, 0, (now, "Running runs: ['run2']"), (now, "Cleaning up finished run: run2"))
                summarised(directory, "run2", "finished", after=now + 1)

        def has_ended(self) -> bool:
            return True

    monkeypatch.setattr(online, "Agent", Mortal)
    sweep = OnlineSweep("tester/films/sweep001", metric(), directory, [Worker(environment={})])
    code = sweep.run()
    told = capsys.readouterr().out
    assert "an agent died: wandb.errors.CommError: no answer; another one starts in 0 s" in told
    assert "trial 1 finished" in told
    assert (code, len(begun), len(sweep.trials)) == ((0, 2, 2) if deaths == 1 else (1, 3, 1))
    assert (sweep.stop_reason is None) == (deaths == 1)


def test_every_end_that_nobody_watched(directory: SweepDirectory) -> None:
    directory.save(trial(1, {"seed": 1}, Status.FINISHED, seconds=7.0, started=BEGUN))
    directory.save(trial(2, {"seed": 2}, Status.PREEMPTED, seconds=5.0, started=BEGUN + 10))
    directory.save(trial(3, {"seed": 3}, Status.RUNNING, started=BEGUN + 20))
    directory.save(trial(4, {"seed": 4}, Status.INTERRUPTED, seconds=3.0, started=BEGUN + 30))
    logged(
        directory,
        0,
        *((0, "Running runs: ['run1']"), (7, "Cleaning up finished run: run1")),
        *((10, "Running runs: ['run2']"), (15, "Cleaning up finished run: run2")),
        *((20, "Running runs: ['run3']"), (24, "Cleaning up finished run: run3")),
        *((50, "Running runs: ['run2']"), (59, "Cleaning up finished run: run2")),
        *((60, "Running runs: ['run6']"),),
    )
    logged(
        directory,
        1,
        *((30, "Running runs: ['run4']"), (33, "Cleaning up finished run: run4")),
        *((40, "Running runs: ['run5']"), (41, "ValueError: x"), (42, "Cleaning up finished run: run5")),
    )
    summarised(directory, "run2", "finished", 58)
    summarised(directory, "run3", "preempted", 19)  # of an earlier attempt
    trials = resumed(directory)
    assert {run: (found.number, found.status, found.seconds) for run, found in trials.items()} == {
        "run1": (1, Status.FINISHED, 7.0),
        "run2": (2, Status.FINISHED, 14.0),
        "run3": (3, Status.FAILED, 4.0),
        "run4": (4, Status.INTERRUPTED, 3.0),
        "run5": (5, Status.FAILED, 2.0),
        "run6": (6, Status.PREEMPTED, 0.0),  # its agent was killed before it could say
    }
    assert (trials["run5"].parameters, trials["run5"].reason) == ({"seed": 5}, "ValueError: x")
    assert trials["run3"].reason == "it printed nothing"
    again = resumed(directory)
    assert again == trials


def test_a_damaged_summary_is_named(directory: SweepDirectory) -> None:
    logged(directory, 0, (0, "Running runs: ['run1']"), (7, "Cleaning up finished run: run1"))
    summarised(directory, "run1", "finished", 6)
    path = directory.path / "run1" / "summary.json"
    path.write_text(path.read_text()[:-3])
    with pytest.raises(InputError, match=r"run1/summary\.json is damaged"):
        resumed(directory)


def test_a_trial_whose_agent_alone_was_killed_still_runs(
    directory: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(directory, 0, (0, "Running runs: ['run1']"))
    (directory.path / "run1").mkdir()
    with FileLock(directory.path / "run1" / LOCK_NAME):
        assert resumed(directory)["run1"].status == Status.RUNNING
    assert "trial 1 (run1) is still running" in capsys.readouterr().out
    assert resumed(directory)["run1"].status == Status.PREEMPTED


@pytest.mark.parametrize("workers", [1, 2])
def test_one_agent_that_still_runs_is_enough_to_refuse(directory: SweepDirectory, workers: int) -> None:
    directory.save(trial(1, {"seed": 1}, Status.RUNNING))
    logged(directory, 0, (0, "Running runs: ['run1']"))
    before = (directory.path / "trials" / "run1.json").read_bytes()
    with (
        FileLock(logged(directory, 1).lock),
        pytest.raises(InputError, match=r"agents/1/agent\.lock: an agent of an earlier sweep\.py still runs"),
    ):
        OnlineSweep("tester/films/sweep001", metric(), directory, [Worker(environment={})] * workers).run()
    assert not (directory.path / "agents" / "0" / "agent.lock").exists()
    assert (directory.path / "trials" / "run1.json").read_bytes() == before


class BriefAgent:
    """An agent that is handed `RUNS`, one after the other, each over at once, and then nothing more."""

    RUNS = ("run2", "run3")

    exit_code = 0

    def __init__(self, path: str, log: AgentLog, environment: dict[str, str]) -> None:
        del path, environment
        self.log = log

    def has_ended(self) -> bool:
        number = int(self.log.folder.name)
        now = int(time.time()) - BEGUN
        directory = SweepDirectory(self.log.folder.parent.parent)
        for run in self.RUNS:
            logged(directory, number, (now, f"Running runs: ['{run}']"), (now, f"Cleaning up finished run: {run}"))
            summarised(directory, run, "finished", now + 1)
        return True

    def send(self, number: signal.Signals) -> None:
        raise AssertionError(number)


def test_a_trial_that_was_cut_short_before_its_first_value_goes_on(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(online, "Agent", BriefAgent)
    directory.save(trial(2, {"seed": 2}, Status.PREEMPTED, started=BEGUN))
    OnlineSweep("tester/films/sweep001", metric(), directory, [Worker(environment={})]).run()
    said = capsys.readouterr().out
    assert "trial 2 (run2) resumes: seed=2" in said
    assert "trial 3 (run3) starts: seed=3" in said
