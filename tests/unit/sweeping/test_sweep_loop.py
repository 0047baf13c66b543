"""How a trial has ended, for every way in which it can."""

import signal
from pathlib import Path

import pytest
from doubles.sweeps_made import trial

from textrnn.sweeping.sweep_loop import outcome, settle
from textrnn.sweeping.trials import SweepDirectory
from textrnn.tracking.summary import Status


@pytest.mark.parametrize(
    ("code", "said", "file", "asked", "status"),
    [
        (0, "finished", False, False, Status.FINISHED),
        (0, "finished", True, False, Status.FINISHED),  # it was faster than the signal
        (None, "finished", False, False, Status.FINISHED),
        (0, "stopped", True, False, Status.STOPPED),
        (75, "preempted", True, False, Status.STOPPED),
        (-signal.SIGTERM, None, True, False, Status.STOPPED),
        (-signal.SIGKILL, None, True, False, Status.STOPPED),  # it took too long to end
        (-signal.SIGTERM, None, False, False, Status.PREEMPTED),
        (None, None, True, False, Status.STOPPED),
        (None, "stopped", False, False, Status.STOPPED),  # by a person in W&B
        (1, "failed", True, False, Status.FAILED),
        (0, None, False, False, Status.FAILED),
        (0, "preempted", False, False, Status.FAILED),
        (75, "preempted", False, False, Status.PREEMPTED),
        (75, "preempted", False, True, Status.INTERRUPTED),
        (-signal.SIGTERM, None, False, True, Status.INTERRUPTED),
        (130, "interrupted", False, False, Status.INTERRUPTED),
        (None, "preempted", False, False, Status.PREEMPTED),
        (None, None, False, False, Status.PREEMPTED),
        (None, "failed", False, False, Status.FAILED),
        (1, None, False, False, Status.FAILED),
        (2, "preempted", False, False, Status.FAILED),
        (-signal.SIGKILL, "preempted", False, False, Status.FAILED),
    ],
)
def test_outcome(tmp_path: Path, code: int | None, said: str | None, file: bool, asked: bool, status: Status) -> None:
    early_stop = tmp_path / "early-stop"
    if file:
        early_stop.write_text("hyperband: weak\n")
    summary = None if said is None else Status(said)
    found, reason = outcome(code, summary, early_stop, "ValueError: x", interrupted=asked)
    assert found == status
    if status == Status.STOPPED and file:
        assert reason == "hyperband: weak"
    elif status == Status.FAILED:
        assert reason
        assert code == 0 or "ValueError: x" in reason
    else:
        assert reason is None


@pytest.mark.parametrize("code", [-signal.SIGKILL, None], ids=["killed", "killed with its sweep"])
def test_an_offline_record_without_content_does_not_stop_a_sync(tmp_path: Path, code: int | None) -> None:
    directory = SweepDirectory(tmp_path)
    killed, kept = trial(1, {}, Status.RUNNING), trial(2, {}, Status.RUNNING)
    records = []
    for each, content in ((killed, b"1234567"), (kept, b"1234567 and a row")):
        record = (
            directory.run_directory(each).path
            / f"wandb/offline-run-20260101_000000-{each.run_id}/run-{each.run_id}.wandb"
        )
        record.parent.mkdir(parents=True)
        record.write_bytes(content)
        (tmp_path / "trials").mkdir(exist_ok=True)
        directory.log(each).touch()
        settle(directory, each, code, interrupted=False)
        records.append(record)
    assert [record.with_name(f"{record.name}.synced").exists() for record in records] == [True, False]
