"""The same faults at plain agents on a real SLURM: an array of `sweeps/slurm_agents.sbatch` with a time limit.

    wrong = SlurmChaos(seed=0, trials=12, workers=3, place=folder).play()

A task's time limit is moved to the next minutes, an urgent job takes the nodes, W&B's server is down or stalls, or it
forgets an agent. `play` submits the array, and once more while W&B has trials that wait, as docs/cluster.md says.
Trials are not killed with -9: W&B gives such a trial to no agent.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from doubles.chaos import RESUMES, Chaos, Planned
from doubles.slurm import OVER, Slurm, cluster
from support import ROOT, until

SCRIPT = str(ROOT / "sweeps" / "slurm_agents.sbatch")
SMALL = ("--cpus-per-task=1", "--mem-per-cpu=500M", "--gpus-per-task=0", "--time=60")
NOTICE = 3
"""Minutes before the new limit of a task: SLURM looks every half minute, and warns two minutes before the limit."""


class SlurmChaos(Chaos):
    """One array of agents and what happens to it."""

    faults = {"time limit": 4, "urgent job": 4, "outage": 2, "stall": 1, "expire": 2}  # noqa: RUF012 - as its base's

    def __init__(self, *, place: Path, **options: Any) -> None:
        super().__init__(place=place, **options)
        (self._place / "train.py").symlink_to(ROOT / "train.py")
        self._environment["PATH"] = f"{Path(sys.executable).parent}:{self._environment['PATH']}"
        self._slurm: Slurm

    def play(self) -> list[str]:
        """Return what is wrong in the end."""
        with cluster(self._place.parent) as self._slurm, self._slurm.turn(), self._server:
            config = yaml.safe_load((self._place / "sweep.yaml").read_text())
            variables = {"projectName": "textrnn", "config": yaml.safe_dump(config)}
            sweep = self._server.sweeps[self._server.answer("UpsertSweep", variables)["upsertSweep"]["sweep"]["id"]]
            (self._place / "runs" / sweep.id).mkdir(parents=True)
            while sweep.state != "FINISHED" and len(self.codes) <= RESUMES:
                self._submit(f"tester/textrnn/{sweep.id}", faults=not self.codes)
            return self._wrong()

    def _submit(self, sweep: str, *, faults: bool) -> None:
        arguments = (f"--array=0-{self._workers - 1}", *SMALL, SCRIPT, sweep)
        job = self._slurm.submit(*arguments, place=self._place, environment=self._environment)
        while not set(self._slurm.states(job)) <= OVER:
            if faults:
                self._play_due()
            time.sleep(0.5)
        self.output = self._slurm.output(job)
        codes = [task["ExitCode"] for task in self._slurm.describe(job)]
        self.codes.append(max(int(part) for code in codes for part in code.split(":")))

    def _strike(self, planned: Planned) -> None:
        if planned.kind == "urgent job":
            self._note(planned)
            options = ("--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "true")
            urgent = self._slurm.submit(*options, place=self._place, environment=self._environment)
            self._slurm.wait(urgent, "COMPLETED", deadline=300)
        elif planned.kind == "time limit":
            for pid in self._processes(planned.run.id):
                self._note(planned)
                self._limit(_task(pid))
        else:
            super()._strike(planned)

    def _limit(self, task: str) -> None:
        """Move a task's time limit to the next minutes, until it has been requeued."""
        (before,) = self._slurm.describe(task)
        hours, minutes, _ = before["RunTime"].split(":")
        limit = int(hours) * 60 + int(minutes) + NOTICE
        self._slurm.run("scontrol", "update", f"JobId={task}", f"TimeLimit={limit}")

        def is_requeued() -> bool:
            """Whether it has been, or has ended with the sweep."""
            (now,) = self._slurm.describe(task)
            return now["JobState"] in OVER or now["Restarts"] != before["Restarts"]

        until(is_requeued, lambda: self._slurm.output(task), deadline=600)
        if self._slurm.states(task)[0] not in OVER:
            self._slurm.run("scontrol", "update", f"JobId={task}", "TimeLimit=60")

    def _wrong(self) -> list[str]:
        wrong = [f"exit codes {self.codes}"] if any(self.codes) else []
        return wrong + self._wrong_runs()


def _task(pid: int) -> str:
    """Return the task of the array, as SLURM names it, that a process belongs to."""
    variables = dict(
        line.split(b"=", 1) for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in line
    )
    return os.fsdecode(variables[b"SLURM_ARRAY_JOB_ID"] + b"_" + variables[b"SLURM_ARRAY_TASK_ID"])
