"""The last line of a run that was ended early."""

import os
from pathlib import Path

import pytest

from textrnn.base.exits import INTERRUPTED, PREEMPTED
from textrnn.tracking.run_directory import RunDirectory
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
