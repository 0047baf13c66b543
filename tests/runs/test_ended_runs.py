"""Runs that have ended, or were told to, and what `resume` makes of them and of what is lost in their directories."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.run_files import SMALL, json_of, last_step, start, wait_for_step
from doubles.tracked_runs import assert_whole, log_in, only_run
from doubles.wandb_server import WandbServer
from support import Command

STEPS = 9
"""Of an epoch."""
ONE = (*SMALL, "trainer.max_epochs=1", "early_stopping.patience=null", "optimizer.schedule=constant")


def status(run: Path) -> object:
    return json_of(run / "summary.json")["status"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_that_trains_on_and_is_killed_is_not_finished(
    here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    run = workplace / "run"
    assert here("train.py", *ONE, "run_dir=run").returncode == 0
    process = start(("resume=run", "trainer.max_epochs=16"), workplace, environment)
    wait_for_step(run, STEPS + 2, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -9
    assert not (run / "summary.json").exists()
    assert last_step(run) < 16 * STEPS
    done = here("train.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert last_step(run) == 16 * STEPS
    assert status(run) == "finished"


def contents(run: Path) -> dict[Path, bytes]:
    """All files of a run but its log."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}


@pytest.fixture
def client() -> Iterator[None]:
    """W&B's client for runs in this process, where it has one service, of the environment that it first saw."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def account(client: None, environment: dict[str, str]) -> Iterator[WandbServer]:
    """An account for runs in this process."""
    with WandbServer() as server:
        log_in(environment, server)
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("step", ["write_evaluation", "write_summary"])
def test_what_fails_after_the_test_makes_it_a_failed_run(
    step: str, account: WandbServer, here: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workplace / "run"

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"textrnn.training.record.{step}", full)
        assert here("train.py", *ONE, "tracking=online", "run_dir=run").returncode == 1
    assert "No space left" in (run / "train.log").read_text()
    assert (only_run(account).exit_code, only_run(account).state) == (1, "failed")
    assert only_run(account).summary["status"] == "failed"
    assert not (run / "summary.json").exists() or status(run) == "failed"
    done = here("train.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert_whole(account, run)
    assert status(run) == "finished"


@pytest.mark.slow
def test_a_test_of_older_weights_is_not_the_runs_once_it_trains_on(
    account: WandbServer, here: Command, workplace: Path
) -> None:
    run = workplace / "run"
    assert here("train.py", *ONE, "tracking=online", "run_dir=run").returncode == 0
    assert "test/loss" in json_of(run / "summary.json")
    assert "test/loss" in only_run(account).summary
    on = here("train.py", "resume=run", "trainer.max_epochs=2", "test=false")
    assert on.returncode == 0, on.stderr
    assert [path.name for path in run.glob("evaluation-*")] == ["evaluation-validation"]
    for values in (json_of(run / "summary.json"), only_run(account).summary):
        assert not [name for name in values if name.startswith("test/")]
        assert "val/loss" in values
    assert_whole(account, run)
    (line,) = [line for line in on.stdout.splitlines() if line.lstrip().startswith("loss")]
    assert len(line.replace("│", " ").split()) == 3, "of training and validation"
    assert here("train.py", "resume=run", "test=true").returncode == 0
    assert [path.name for path in run.glob("evaluation-*")] == ["evaluation-test"]
    assert only_run(account).summary["test/loss"] == json_of(run / "summary.json")["test/loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn", "client")
def test_wandb_refuses_and_nothing_has_changed(here: Command, workplace: Path) -> None:
    broken = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "soon"}
    refused = here("train.py", *ONE, "tracking=offline", "run_dir=run", **broken)
    assert refused.returncode == 2
    assert "W&B refuses the run" in refused.stderr
    assert list(workplace.iterdir()) == []
    assert here("train.py", *ONE, "run_dir=run").returncode == 0
    before = contents(workplace / "run")
    again = ("train.py", "resume=run", "trainer.max_epochs=2", "tracking=offline")
    for variables, told in ((broken, "W&B refuses"), ({"WANDB_INIT_TIMEOUT": "abc"}, "WANDB_INIT_TIMEOUT='abc'")):
        refused = here(*again, **variables)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert contents(workplace / "run") == before


@pytest.mark.usefixtures("undrawn")
def test_less_than_a_run_has_come_to_is_refused_and_leaves_it_as_it_was(here: Command, workplace: Path) -> None:
    run = workplace / "run"
    assert here("train.py", *ONE, "trainer.max_epochs=3", "run_dir=run").returncode == 0
    before = contents(run)
    for typed, told in (
        ("trainer.max_epochs=2", "type trainer.max_epochs=3 or more"),
        ("trainer.max_steps=5", f"type trainer.max_steps={3 * STEPS} or more"),
        ("trainer.fast_dev_run=true", "type trainer.fast_dev_run=false"),
        ("optimizer.lr=0.01", "is finished, so that optimizer.lr would change nothing"),
    ):
        refused = here("train.py", "resume=run", typed)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert contents(run) == before
    over = here("train.py", "resume=run")
    assert (over.returncode, "this run is finished" in over.stderr) == (0, True)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_what_is_lost_in_a_runs_directory_costs_nothing_else(here: Command, workplace: Path) -> None:
    run = workplace / "run"
    command = (*ONE, "trainer.max_epochs=2", "run_dir=run", "resume=auto")
    assert here("train.py", *command).returncode == 0
    whole = contents(run)
    (run / "run.json").unlink()
    assert here("train.py", *command).returncode == 0
    assert contents(run) == whole

    (run / "checkpoints" / "last.ckpt").unlink()
    left = contents(run)
    again = here("train.py", *command)
    assert (again.returncode, contents(run)) == (0, left)
    assert "this run is finished" in again.stderr
    longer = (*command, "trainer.max_epochs=3")
    for lost in ("summary.json", "config.yaml", "curves.png"):
        refused = here("train.py", *longer)
        assert refused.returncode == 2
        assert "no checkpoints/last.ckpt" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert contents(run) == left
        (run / lost).unlink()
        left = contents(run)

    first = [line for line in (run / "metrics.csv").read_text().splitlines() if line.split(",")[1] in ("epoch", "0")]
    (run / "metrics.csv").write_text("\n".join([*first, ""]))  # killed before its first epoch was over
    begun = here("train.py", *command)
    assert begun.returncode == 0, begun.stderr
    assert (status(run), last_step(run)) == ("finished", 2 * STEPS)

    (run / "summary.json").write_text('{"status": "fini')
    for arguments in (command, ("resume=run",)):
        damaged = here("train.py", *arguments)
        assert damaged.returncode == 2
        assert "summary.json is damaged" in damaged.stderr
        assert damaged.stderr.count("\n") == 1
    (run / "summary.json").unlink()
    assert here("train.py", *command).returncode == 0
    assert status(run) == "finished"


@pytest.mark.usefixtures("undrawn")
def test_a_stop_that_a_kill_overtook_is_recorded_by_the_next_start(here: Command, workplace: Path) -> None:
    run = workplace / "run"
    command = (*ONE, "run_dir=run", "resume=auto")
    assert here("train.py", *command).returncode == 0
    (run / "summary.json").unlink()
    (run / "early-stop").write_text("hyperband: worse than half of the trials\n")
    (run / "wandb-unsent").write_text("run\n")
    again = here("train.py", *command, "trainer.max_epochs=3")
    assert again.returncode == 0, again.stderr
    assert status(run) == "stopped"
    assert last_step(run) < 2 * STEPS
    assert "stopped early" in here("train.py", *command, "trainer.max_epochs=3").stderr
    on = here("train.py", "resume=run", "trainer.max_epochs=2")
    assert on.returncode == 0, on.stderr
    assert (status(run), last_step(run)) == ("finished", 2 * STEPS)
    assert not (run / "early-stop").exists()
