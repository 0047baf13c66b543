"""The SLURM batch job of a run, and its requeue after a pre-emption."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from textrnn.base.console import LOGGER

TRIAL = "TEXTRNN_TRIAL"
"""Environment variable of the trials that `sweep.py` runs without W&B's server."""
TIMEOUT = 20.0
"""Seconds in which SLURM's controller must answer."""


REQUEUED = ("RUNNING", "TIMEOUT")
"""States of a job that `requeue` requeues."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A batch job that SLURM can requeue."""

    id: str
    """The id for `scontrol`; in an array with the task's number."""
    restarts: int
    """How often SLURM has requeued it."""
    state: str
    """SLURM's name of its state, such as RUNNING."""


def batch_job() -> Job | None:
    """Return the batch job that this process runs in, if SLURM may requeue it.

    None for a trial of a sweep, which the sweep itself starts again, and in an interactive allocation.
    """
    of_a_sweep = {"WANDB_SWEEP_ID", TRIAL} & set(os.environ)
    if "SLURM_JOB_ID" not in os.environ or of_a_sweep or shutil.which("scontrol") is None:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # An array's last task has the array's own number, for which SLURM would list all tasks.
    name = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    state = _show(name)
    if state.get("BatchFlag") != "1" or state.get("Requeue") != "1":
        return None
    return Job(id=name, restarts=int(state["Restarts"]), state=state["JobState"])


def will_requeue() -> bool:
    """Return whether `requeue` will ask SLURM to start this process's job again."""
    job = batch_job()
    return job is not None and job.state in REQUEUED


def requeue() -> None:
    """Requeue this process's job, which ends it; log whether SLURM does.

    Only a job that is running or at its time limit is requeued: a cancelled job stays cancelled, and a pre-empted job
    is requeued by SLURM itself.
    """
    job = batch_job()
    if job is None:
        return
    if job.state not in REQUEUED:
        LOGGER.info(f"SLURM job {job.id} is {job.state}: not requeued")
        return
    done = _scontrol("requeue", job.id)
    if done.returncode == 0:
        LOGGER.info(f"SLURM requeues job {job.id}, which then resumes")
    else:
        said = done.stderr.strip()
        LOGGER.warning(f"SLURM does not requeue job {job.id} ({said}); the same command with resume=auto resumes")


def _show(job: str) -> dict[str, str]:
    """Return SLURM's facts about a job; none if it does not answer."""
    done = _scontrol("show", "job", "--oneliner", job)
    if done.returncode != 0:
        LOGGER.warning(f"SLURM does not describe job {job}: {done.stderr.strip()}")
        return {}
    return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 1, "", f"no answer in {TIMEOUT:.0f} seconds")
