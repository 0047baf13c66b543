"""What an online sweep makes of the files that its agents write, and of agents that die. No process is started."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.sweeps_made import metric, sweep, trial

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.sweeping import online
from textrnn.sweeping.agents import CANCELLED, DELETED, STOPPED, Agent, RecordedTrials
from textrnn.sweeping.online import OnlineSweep
from textrnn.sweeping.processes import TrialProcess, Worker
from textrnn.sweeping.trials import SweepDirectory, Trial
from textrnn.tracking.run_directory import LOCK_NAME
from textrnn.tracking.summary import Status

BEGUN = 1_750_000_000


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SweepDirectory]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(online, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(online, "left_to_us", lambda path, trials: [])
    made = SweepDirectory.create(sweep(), "tester/films/sweep001")
    yield made
    made.release()


def online_sweep(directory: SweepDirectory, workers: int = 1) -> OnlineSweep:
    return OnlineSweep(sweep(), "tester/films/sweep001", metric(), directory, [Worker(environment={})] * workers)


def runs(monkeypatch: pytest.MonkeyPatch, work: Callable[[RecordedTrials], None], *exit_codes: int) -> list[int]:
    """Let each agent do `work` and be over, with the next of `exit_codes`; returns the workers of those started."""
    started: list[int] = []

    class Over:
        def __init__(self, directory: SweepDirectory, worker: int) -> None:
            self.exit_code = exit_codes[min(len(started), len(exit_codes) - 1)]
            started.append(worker)
            folder = directory.agent_folder(worker)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "agent.log").write_text("wandb.errors.CommError: no answer\n")
            work(RecordedTrials(directory, worker))

        def has_ended(self) -> bool:
            return True

    def start(path: str, directory: SweepDirectory, worker: int, environment: dict[str, str]) -> Over:
        return Over(directory, worker)

    monkeypatch.setattr(Agent, "of", start)
    return started


def finish(trials: RecordedTrials, run: str) -> None:
    """Run a trial to its end."""
    trials.begin(run, {"seed": int(run[-1])})
    folder = Path("runs", "sweep001", run)
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text('{"status": "finished"}')
    trials.end(run, 0, False, False)


def nothing(trials: RecordedTrials) -> None:
    """The work of an agent that is given no trial."""


def resumed(directory: SweepDirectory) -> dict[str, Trial]:
    """The trials on disk after a resumed sweep to which no worker was left."""
    online_sweep(directory, workers=0).run()
    return {found.run_id: found for found in directory.trials()}


def test_an_agent_that_dies_before_any_trial_is_not_replaced(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = runs(monkeypatch, nothing, 1)
    directory.save(trial(1, {"seed": 1}, Status.FINISHED))
    made = online_sweep(directory)
    assert (made.run(), started) == (1, [0])
    assert made.stop_reason == "1 of 1 agents died; the last line: wandb.errors.CommError: no answer"


@pytest.mark.parametrize("deaths", [1, 3])
def test_an_agent_that_dies_after_a_trial_is_replaced_so_many_times(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], deaths: int
) -> None:
    monkeypatch.setattr(online, "DEATHS", 3)

    def work(trials: RecordedTrials) -> None:
        if len(started) == 1:
            finish(trials, "run1")
        if len(started) > deaths:
            finish(trials, "run2")

    started: list[int] = []
    started = runs(monkeypatch, lambda trials: work(trials), *[1] * deaths, 0)
    made = online_sweep(directory)
    code = made.run()
    told = capsys.readouterr().out
    assert "an agent died: wandb.errors.CommError: no answer; another one starts in 0 s" in told
    assert "trial 1 finished" in told
    assert (code, len(started), len(made.trials)) == ((0, 2, 2) if deaths == 1 else (1, 3, 1))
    assert (made.stop_reason is None) == (deaths == 1)


@pytest.mark.parametrize(
    ("ends", "code", "said", "reason"),
    [
        ((CANCELLED, 0), 1, "", "the sweep was cancelled in W&B"),
        ((DELETED, DELETED), 1, "", "the sweep was deleted in W&B"),
        ((1, DELETED), 1, "", "the sweep was deleted in W&B"),
        ((STOPPED, 0), 0, "the sweep was stopped in W&B before its last trial", None),
        ((0, 0), 0, "", None),
    ],
)
def test_an_end_in_wandb_is_reported_as_what_it_is(
    directory: SweepDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ends: tuple[int, int],
    code: int,
    said: str,
    reason: str | None,
) -> None:
    runs(monkeypatch, nothing, *ends)
    directory.save(trial(1, {"seed": 1}, Status.FINISHED))
    made = online_sweep(directory, workers=2)
    assert (made.run(), made.stop_reason, made.is_over) == (code, reason, reason is not None)
    assert capsys.readouterr().out.splitlines()[1:] == [said] * bool(said)


def test_what_ended_unwatched_is_reported_once(directory: SweepDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    directory.save(trial(1, {"seed": 1}, Status.FINISHED))
    directory.leaderboard_csv.touch()
    os.utime(directory.leaderboard_csv, (time.time() + 1, time.time() + 1))
    for number, status in ((2, Status.FAILED), (3, Status.PREEMPTED)):
        made = trial(number, {"seed": number}, status)
        directory.save(made)
        os.utime(directory.file(made), (time.time() + 2, time.time() + 2))
    resumed(directory)
    assert [line.partition(" after")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("trial 2 failed", "trial 3 preempted")
    ]


@pytest.mark.parametrize(
    ("summary", "status"),
    [(None, Status.PREEMPTED), ("finished", Status.FINISHED), ("failed", Status.FAILED)],
)
def test_a_trial_whose_agent_was_killed_too_is_settled_by_its_run_directory(
    directory: SweepDirectory, summary: str | None, status: Status
) -> None:
    made = trial(1, {"seed": 1}, Status.RUNNING, started=BEGUN, seconds=2.0)
    directory.save(made)
    directory.log(made).write_text("ValueError: x\n")
    os.utime(directory.log(made), (BEGUN + 3, BEGUN + 3))
    if summary is not None:
        (directory.path / "run1").mkdir()
        (directory.path / "run1" / "summary.json").write_text(f'{{"status": "{summary}"}}')
        os.utime(directory.path / "run1" / "summary.json", (BEGUN + 5, BEGUN + 5))
    found = resumed(directory)["run1"]
    assert (found.status, found.seconds) == (status, 5.0 if summary is None else 7.0)
    assert found.reason == ("ValueError: x" if status == Status.FAILED else None)
    assert resumed(directory)["run1"] == found


def test_a_damaged_summary_is_named(directory: SweepDirectory) -> None:
    directory.save(trial(1, {"seed": 1}, Status.RUNNING, started=BEGUN))
    (directory.path / "run1").mkdir()
    (directory.path / "run1" / "summary.json").write_text('{"status": ')
    with pytest.raises(InputError, match=r"run1/summary\.json is damaged"):
        resumed(directory)


def test_a_trial_whose_agent_alone_was_killed_still_runs(
    directory: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.save(trial(1, {"seed": 1}, Status.RUNNING, started=BEGUN))
    with FileLock(directory.path / "run1" / LOCK_NAME):
        assert resumed(directory)["run1"].status == Status.RUNNING
    assert "trial 1 (run1) is still running" in capsys.readouterr().out
    assert resumed(directory)["run1"].status == Status.PREEMPTED


@pytest.mark.parametrize("workers", [1, 2])
def test_one_agent_that_still_runs_is_enough_to_refuse(directory: SweepDirectory, workers: int) -> None:
    directory.save(trial(1, {"seed": 1}, Status.RUNNING, started=BEGUN))
    before = (directory.path / "trials" / "run1.json").read_bytes()
    with (
        FileLock(directory.agent_folder(1) / "agent.lock"),
        pytest.raises(InputError, match=r"agents/1/agent\.lock: an agent of an earlier sweep\.py still runs"),
    ):
        online_sweep(directory, workers).run()
    assert not directory.agent_folder(0).exists()
    assert (directory.path / "trials" / "run1.json").read_bytes() == before


def test_a_trial_that_was_cut_short_before_its_first_value_is_resumed(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(trials: RecordedTrials) -> None:
        for run in ("run2", "run3"):
            finish(trials, run)

    runs(monkeypatch, work, 0)
    directory.save(trial(2, {"seed": 2}, Status.PREEMPTED, started=BEGUN))
    online_sweep(directory).run()
    said = capsys.readouterr().out
    assert "trial 2 (run2) resumes: seed=2" in said
    assert "trial 3 (run3) starts: seed=3" in said


@pytest.mark.parametrize(("exit_code", "starts"), [(0, 4), (1, 3)])
def test_trials_that_wandb_gives_to_no_agent_are_run_before_the_agents(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, exit_code: int, starts: int
) -> None:
    environments: list[dict[str, str]] = []

    class Ended:
        def __init__(self, command: list[str], environment: dict[str, str]) -> None:
            environments.append(environment)
            assert command[-2:] == ["resume=auto", f"seed={environment['WANDB_RUN_ID'][-1]}"]
            folder = directory.path / environment["WANDB_RUN_ID"]
            folder.mkdir()
            (folder / "summary.json").write_text('{"status": "finished"}')
            self.exit_code = exit_code

        def has_ended(self) -> bool:
            return True

        def send(self, number: int) -> None:
            """Nobody asks it."""

    def start(command: list[str], environment: dict[str, str], *, log: Path, lock: Path) -> Ended:
        return Ended(command, environment)

    monkeypatch.setattr(TrialProcess, "start", start)
    monkeypatch.setattr(online, "left_to_us", lambda path, trials: list(trials))
    monkeypatch.setattr(online, "POLL", 0.01)
    agents = runs(monkeypatch, nothing, 0)
    for number in range(1, 5):
        directory.save(trial(number, {"seed": number}, Status.FAILED, exit_code=-9))
    directory.save(trial(5, {"seed": 5}, Status.FINISHED))
    made = online_sweep(directory)
    assert made.run() == exit_code
    assert [environment["WANDB_RUN_ID"] for environment in environments] == ["run1", "run2", "run3", "run4"][:starts]
    assert {environment["WANDB_SWEEP_ID"] for environment in environments} == {"sweep001"}
    assert {environment["WANDB_ENTITY"] for environment in environments} == {"tester"}
    assert {environment["WANDB_PROJECT"] for environment in environments} == {"films"}
    assert agents == ([0] if exit_code == 0 else [])
