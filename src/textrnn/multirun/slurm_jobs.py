"""The jobs of `-m hydra/launcher=slurm`: submitit submits them to SLURM, and this process waits for their results.

Hydra's plugin for submitit is not used: a killed job would end the wait for all others, without SLURM's accounting the
kill would not be noticed, and the plugin returns no exit codes.
"""

import contextlib
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission

from textrnn.base import exits as exits
from textrnn.base.errors import InputError

POLL = 1.0
"""Seconds between two checks of the jobs."""
VISIBLE_WITHIN = 15.0
"""Seconds within which the results of a job on a shared disk must be visible on this machine."""
TIMEOUT = 30.0
"""Seconds in which SLURM's controller must answer."""


class Command:
    """One job: train.py with the arguments of one run, on the job's node.

    Args:
        train: The command, importable on the node; takes the arguments, returns the exit code.
        program: The program's name, for the record.
        argv: The arguments.
    """

    def __init__(self, train: Callable[[Sequence[str]], int], program: str, argv: Sequence[str]) -> None:
        self.train = train
        self.program = program
        self.argv = list(argv)

    def __call__(self) -> int:
        """Run the command; return its exit code."""
        sys.argv = [self.program, *self.argv]
        code = self.train(self.argv)
        if code in (exits.PREEMPTED, exits.INTERRUPTED):
            # No result, as the job isn't over: it has asked SLURM to requeue it.
            raise SystemExit(code)
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit resubmits at a signal before or after the run."""
        return DelayedSubmission(self)


def launch(
    train: Callable[[Sequence[str]], int], jobs: Sequence[Sequence[str]], settings: Mapping[str, Any], folder: Path
) -> list[int]:
    """Run train.py with each argument list, as a SLURM job array; return the exit codes in order.

    Args:
        train: Runs train.py with one of the lists.
        jobs: The argument lists.
        settings: `conf/hydra/launcher/slurm.yaml` with the typed changes.
        folder: Folder of the logs and of submitit's files, visible to all nodes.

    Raises:
        InputError: if SLURM refuses the jobs.
    """
    submitted = _submit([Command(train, sys.argv[0], argv) for argv in jobs], settings, folder)
    array = submitted[0].job_id.partition("_")[0]
    print(f"{len(jobs)} job(s) in SLURM's queue: {array}; logs: {folder}; to end them: scancel {array}", flush=True)
    codes: dict[int, int] = {}
    gone_since: dict[int, float] = {}
    try:
        while len(codes) < len(jobs):
            time.sleep(POLL)
            queued = _queued(array)
            for number, job in enumerate(submitted):
                if number in codes:
                    continue
                if _has_results(job):
                    codes[number] = _code(job)
                elif queued is not None and job.job_id not in queued:
                    since = gone_since.setdefault(number, time.monotonic())
                    if time.monotonic() - since > VISIBLE_WITHIN:
                        codes[number] = exits.CRASH
                else:
                    gone_since.pop(number, None)
                if codes.get(number):
                    print(_failure(job, codes[number]), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"the jobs continue; to end them: scancel {array}", file=sys.stderr)
        raise
    return [codes[number] for number in range(len(jobs))]


def refuse_while_queued(folder: Path) -> None:
    """Refuse to train in the run directories of jobs of earlier calls that are still in SLURM's queue.

    Args:
        folder: The folder of `launch`, with a folder of logs for each job.

    Raises:
        InputError: with the names of those jobs.
    """
    names = {path.name for path in folder.iterdir() if path.name[:1].isdecimal()} if folder.is_dir() else set()
    waiting = sorted(name for array in {name.partition("_")[0] for name in names} for name in _queued(array) or ())
    if waiting:
        arrays = " ".join(sorted({name.partition("_")[0] for name in waiting}))
        raise InputError(
            f"run_dir={folder.parent}: job(s) {', '.join(waiting)} of an earlier call are still in SLURM's queue; wait "
            f"for them, or type scancel {arrays} first."
        )


def _submit(commands: Sequence[Command], settings: Mapping[str, Any], folder: Path) -> "list[submitit.Job[int]]":
    own = ("name", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb")
    parameters = {key if key in own else f"slurm_{key}": value for key, value in settings.items() if value is not None}
    # submitit only counts the time limits that it is signaled.
    executor = submitit.AutoExecutor(folder=folder.resolve() / "%j", cluster="slurm", slurm_max_num_timeout=1000)
    executor.update_parameters(
        **parameters, stderr_to_stdout=True, slurm_srun_args=["--kill-on-bad-exit=1", "--input=none"]
    )
    is_new = not folder.exists()
    try:
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # the error has the output of sbatch
            submitted = [executor.submit(command) for command in commands]
    except (FailedJobError, FailedSubmissionError) as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty
                folder.parent.rmdir()
        said = "; ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines())
        advice = "hydra.launcher.KEY=VALUE with a key of conf/hydra/launcher/slurm.yaml"
        if "emory" in said:
            advice = f"hydra.launcher.mem_gb=GB with less than {settings['mem_gb']:g}"
        raise InputError(f"hydra/launcher=slurm: SLURM refuses the jobs ({said}); type {advice}.") from error
    return submitted


def _queued(array: str) -> set[str] | None:
    """Return the jobs of an array that are not over; None if SLURM doesn't answer."""
    command = ["squeue", "--noheader", "--array", f"--jobs={array}", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0 and "Invalid job id" not in done.stderr:
        return None
    return set(done.stdout.split())


def _has_results(job: "submitit.Job[int]") -> bool:
    """Return whether every process of a job has written its result."""
    return all(job.task(number).paths.result_pickle.exists() for number in range(job.num_tasks))


def _code(job: "submitit.Job[int]") -> int:
    """Return the exit code of a job with results: the first one of its processes that isn't 0."""
    try:
        return next((code for code in job.results() if code != exits.DONE), exits.DONE)
    except FailedJobError:  # an exception before the run began; its traceback is in the log
        return exits.CRASH


def _failure(job: "submitit.Job[int]", code: int) -> str:
    return f"job {job.job_id} failed with exit code {code}; its log: {job.paths.stdout}"
