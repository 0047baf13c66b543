"""SLURM's part in a run: the job that it runs in, and how that job comes back after a pre-emption."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from textrnn.base.console import LOGGER

TIMEOUT = 20.0
"""Seconds in which SLURM's controller must answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A batch job that SLURM can start again."""

    id: str
    """As `scontrol` takes it; of an array, with the task's number."""
    restarts: int
    """How often SLURM has started it again."""
    state: str
    """What SLURM calls its state, such as RUNNING."""


def batch_job() -> Job | None:
    """The batch job that this process is in, if SLURM may start it again.

    None for the trial of a sweep, which the sweep hands out again, and in an allocation that somebody types in.
    """
    if "SLURM_JOB_ID" not in os.environ or "WANDB_RUN_ID" in os.environ or shutil.which("scontrol") is None:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # Of an array, the last task has the array's own number, by which SLURM would tell of all of them.
    name = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    state = _show(name)
    if state.get("BatchFlag") != "1" or state.get("Requeue") != "1":
        return None
    return Job(id=name, restarts=int(state["Restarts"]), state=state["JobState"])


def requeue() -> None:
    """Has SLURM start this process's job again, which ends it; says so if it doesn't.

    Only a job that is still running, or at its time limit: one that somebody has cancelled stays cancelled, and one
    that another job displaces is started again by SLURM.
    """
    job = batch_job()
    if job is None:
        return
    if job.state not in ("RUNNING", "TIMEOUT"):
        LOGGER.info(f"SLURM has this job as {job.state}: it is not started again from here")
        return
    done = _scontrol("requeue", job.id)
    if done.returncode == 0:
        LOGGER.info(f"SLURM starts job {job.id} again")
    else:
        LOGGER.warning(f"SLURM does not start job {job.id} again: {done.stderr.strip()}")


def _show(job: str) -> dict[str, str]:
    """What SLURM says of a job; nothing if it does not answer."""
    done = _scontrol("show", "job", "--oneliner", job)
    if done.returncode != 0:
        LOGGER.warning(f"SLURM does not say what job {job} is: {done.stderr.strip()}")
        return {}
    return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 1, "", f"no answer in {TIMEOUT:.0f} seconds")
