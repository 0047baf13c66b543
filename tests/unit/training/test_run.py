"""A run that is ended early: its last line, and a trial that no agent would get again."""

import os
from pathlib import Path

import pytest
from support import Command

from textrnn.base.exits import INTERRUPTED, PREEMPTED
from textrnn.base.signals import Preempted
from textrnn.tracking import wandb_end
from textrnn.tracking.run_directory import RunDirectory
from textrnn.training import run as life
from textrnn.training.run import _how_it_ended


def test_one_line_says_how_it_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "JobId=7 JobState=$STATE Restarts=0 Requeue=1 BatchFlag=1"\n')
    scontrol.chmod(0o755)
    with RunDirectory.claim(Path("run"), resume=False) as directory:
        directory.checkpoints.mkdir()
        directory.last_ckpt.touch()
        command = "resume: python train.py resume=run"
        assert _how_it_ended(directory, INTERRUPTED, alone=True) == f"interrupted; {command}"
        assert _how_it_ended(directory, INTERRUPTED, alone=False) == "interrupted", "the multirun names its command"
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        for state, line in (("RUNNING", "pre-empted"), ("TIMEOUT", "pre-empted"), ("CANCELLED", command)):
            monkeypatch.setenv("STATE", state)
            ended = _how_it_ended(directory, PREEMPTED, alone=True)
            assert (ended == line) or (line == command and command in ended)


@pytest.mark.parametrize(("sweep", "marked"), [("sweep001", ["trial001"]), ("", [])], ids=["trial", "run"])
def test_a_trial_that_is_pre_empted_before_training_is_left_to_another_agent(
    here: Command, monkeypatch: pytest.MonkeyPatch, sweep: str, marked: list[str]
) -> None:
    def stop(*_: object) -> None:
        raise Preempted

    found: list[str] = []
    monkeypatch.setattr(life, "_store", stop)
    monkeypatch.setattr(wandb_end, "mark_as_preempted", lambda config, identity, directory: found.append(identity.id))
    variables = {"WANDB_SWEEP_ID": sweep, "WANDB_RUN_ID": "trial001"} if sweep else {}
    done = here("train.py", "data=synthetic", "trainer=cpu", "tracking=offline", "run_dir=run", **variables)
    assert done.returncode == PREEMPTED, done.stderr
    assert found == marked
