"""What a local sweep makes of its trials: targets, failures, trials to begin again. No process is started."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from doubles.sweeps_made import metric, sweep, trial

from textrnn.config.schema import TrackingConfig
from textrnn.distributed.slurm import TRIAL
from textrnn.sweeping.engine import Engine
from textrnn.sweeping.local import LocalSweep
from textrnn.sweeping.metric import Metric
from textrnn.sweeping.processes import TrialProcess, Worker, begin_again, last_line
from textrnn.sweeping.sweep_loop import Report
from textrnn.sweeping.trials import SweepDirectory
from textrnn.tracking.summary import Status


def local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: str = "minimize", target: float | None = None
) -> LocalSweep:
    monkeypatch.chdir(tmp_path)
    made, aim = sweep(parameters={"seed": {"values": [1, 2, 3]}}), Metric(name="val/loss", goal=goal, target=target)
    return LocalSweep(made, aim, SweepDirectory.create(made), [Worker(environment={})], {}, TrackingConfig())


@pytest.mark.parametrize(
    ("goal", "target", "ends"),
    [
        *(("minimize", 0.25, False), ("minimize", 0.3, True), ("minimize", 0.35, True)),
        *(("maximize", 0.55, False), ("maximize", 0.5, True), ("maximize", 0.45, True)),
    ],
)
def test_a_target_that_is_reached_ends_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: str, target: float, ends: bool
) -> None:
    made = local(tmp_path, monkeypatch, goal, target)
    made.trials = [trial(1, {"seed": 1}, Status.FINISHED, [0.5, 0.3, 0.4])]
    assert (made._draw() is None) == ends


def test_what_failed_before_it_logged_anything_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = local(tmp_path, monkeypatch)
    made.trials = [
        trial(1, {"seed": 1}, Status.FAILED),
        trial(2, {"seed": 2}, Status.FAILED, [0.5]),
        trial(3, {"seed": 3}, Status.STOPPED),
    ]
    made._resume()
    assert [each.status for each in made.trials] == [Status.WAITING, Status.FAILED, Status.STOPPED]


def test_a_trial_that_was_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = local(tmp_path, monkeypatch)
    codes = (-signal.SIGKILL, 1)  # also where the kill came between a value and its checkpoint
    made.trials = [trial(n, {"seed": n}, Status.FAILED, [0.5], exit_code=code) for n, code in enumerate(codes, start=1)]
    made._resume()
    assert [each.status for each in made.trials] == [Status.WAITING, Status.FAILED]


def test_what_nobody_watched_is_told_of_its_last_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = local(tmp_path, monkeypatch)
    made.trials = [trial(1, {"seed": 1}, Status.RUNNING, [0.5], started=1000.0, seconds=5.0)]
    log = made._directory.log(made.trials[0])
    log.write_text("error: no space left\n")
    begin_again(log)
    with log.open("a") as file:
        file.write("reading\n")
    os.utime(log, (1300.0, 1300.0))
    made._resume()
    assert (made.trials[0].seconds, last_line(log)) == (305.0, "reading")


@pytest.mark.parametrize("history", [[], [0.5]])
def test_failures_that_logged_something_dont_end_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: list[float]
) -> None:
    made = local(tmp_path, monkeypatch)
    for number in (1, 2, 3):
        made._end(trial(number, {"seed": number}, Status.RUNNING, history), exit_code=1)
    assert (made.stop_reason is None) == bool(history)


def test_a_stopped_trial_counts_with_what_it_reached() -> None:
    states = (Status.STOPPED, Status.FINISHED, Status.FAILED, Status.WAITING)
    runs = Engine(sweep())._runs([trial(n, {"seed": n}, status, [0.5]) for n, status in enumerate(states)])
    assert [run.state for run in runs] == ["finished", "finished", "failed", "pending"]


@pytest.mark.parametrize(("goal", "best"), [("minimize", "0.3000 (trial 1)"), ("maximize", "0.7000 (trial 2)")])
def test_the_best_so_far_is_told_with_each_value(goal: str, best: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(metric(goal))
    for number, history in ((1, [0.5, 0.3]), (2, [0.7]), (3, [0.5])):
        report.progressed(trial(number, {"seed": number}, Status.RUNNING, history))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1] == f"trial 3: val/loss 0.5000 at step 1; best so far {best}"


def test_a_trials_environment_names_its_run_and_no_sweep_of_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []

    def start(command: list[str], environment: dict[str, str], **files: Any) -> None:
        started.append(environment)

    monkeypatch.setattr(TrialProcess, "start", start)
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "another")
    made = local(tmp_path, monkeypatch)
    made._start(trial(1, {"seed": 1}))
    (environment,) = started
    assert environment["WANDB_RUN_ID"] == "run1"
    assert "WANDB_SWEEP_ID" not in environment
    assert TRIAL in environment, "a SLURM job is not requeued for it"
