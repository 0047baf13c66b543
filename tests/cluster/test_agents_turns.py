"""When `sweeps/slurm_agents.sbatch` puts its task back into the queue: its shell alone, without SLURM and W&B."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT

SCRIPT = ROOT / "sweeps" / "slurm_agents.sbatch"


@pytest.mark.parametrize(
    ("code", "worked", "turns", "forgotten", "queued"),
    [
        *((0, 60, 0, False, False), (0, 60, 0, True, True), (0, 0, 0, True, False), (0, 60, 20, True, False)),
        *((1, 0, 3, False, False), (1, 60, 0, False, True), (1, 60, 20, False, False)),
    ],
    ids=[
        *("through", "forgotten", "forgotten at once", "forgotten again and again"),
        *("dead at once", "dead", "dead again and again"),
    ],
)
def test_an_agent_that_dies_tries_again_once_it_has_worked(
    tmp_path: Path, code: int, worked: int, turns: int, forgotten: bool, queued: bool
) -> None:
    with begin(tmp_path, f"exit {code}", turns, worked, forgotten=forgotten) as process:
        pass
    assert (process.returncode, asked(tmp_path)) == ((0, "requeue 7_0\n") if queued else (code, ""))


def test_an_agent_that_slurm_has_ended_does_not(tmp_path: Path) -> None:
    with begin(tmp_path, f"touch {tmp_path}/begun; sleep 1; exit 1", 3, 60) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
    assert (process.returncode, asked(tmp_path)) == (1, "")


def begin(place: Path, agent: str, turns: int, worked: int, *, forgotten: bool = False) -> "subprocess.Popen[bytes]":
    """A turn of the script, `worked` seconds ago, whose agent is this command; `scontrol` notes what it is asked.

    `python -c` answers for W&B: its exit code is 0 if W&B has forgotten the agent (`end_in_wandb`, tested by itself).
    """
    python = f'[ "$1" = -m ] || exit {int(not forgotten)}\n{agent}'
    for name, command in (("python", python), ("scontrol", f'echo "$@" >> {place}/asked')):
        (place / name).write_text(f"#!/bin/sh\n{command}\n")
        (place / name).chmod(0o755)
    names = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": str(turns)}
    names["SECONDS"] = str(worked)  # from which bash goes on to count
    environment = {**os.environ, **names, "PATH": f"{place}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", str(SCRIPT), "tester/films/1"], env=environment)


def asked(place: Path) -> str:
    return (place / "asked").read_text() if (place / "asked").exists() else ""
