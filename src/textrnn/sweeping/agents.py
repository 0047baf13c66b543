"""W&B's agents: the sweep's registration, and the process of an agent that keeps its trials as a local sweep does."""

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.base.locks import FileLock
from textrnn.config.schema import Config
from textrnn.sweeping.processes import SIGNALS, TrialProcess, begin_again, find_program
from textrnn.sweeping.sweep_file import Sweep
from textrnn.sweeping.sweep_loop import settle
from textrnn.sweeping.trials import SweepDirectory, Trial, next_number
from textrnn.tracking.wandb_internals import resume_sweep, run_agent, service_variable

STOPPED, CANCELLED, DELETED = 11, 12, 13
"""Exit codes of an agent whose sweep has ended in W&B before its last trial."""
FORGOTTEN = 14
"""Exit code of an agent that W&B has not told to exit, and whose sweep continues."""
WAITING = {"preempted", "preempting"}
"""States of a trial that W&B gives to an agent again, unless it has finished the sweep."""
OURS = {
    "WANDB_AGENT_DISABLE_FLAPPING": "true",
    "WANDB_AGENT_MAX_INITIAL_FAILURES": "1000000",
}
"""Environment of an agent that doesn't count failures: for it a pre-empted trial is one, and `sweep.py` counts them."""


def register(sweep: Sweep, config: Config) -> str:
    """Register the sweep at W&B and return its path there, ENTITY/PROJECT/ID or PROJECT/ID.

    Raises:
        InputError: if W&B refuses it.
    """
    import wandb

    # Typed values have priority over the file, and the file over the environment.
    project = config.tracking.project or sweep.config.get("project") or config.tracking.effective_project()
    entity = config.tracking.entity or sweep.config.get("entity")
    sweep.config |= {"project": project} | ({"entity": entity} if entity else {})
    sweep.config["program"] = find_program(sweep)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            name = wandb.sweep(dict(sweep.config), entity=entity, project=project)
    except (wandb.errors.Error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{sweep.path}: W&B refuses the sweep ({reason}); correct it or type tracking=offline."
        ) from error
    if url := re.search(r"Sweep URL: (\S+)", said.getvalue()):
        print(f"view: {url[1]}")
    return "/".join(part for part in (entity, project, name) if part)


def without_service(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that doesn't share the client's service with this one."""
    return {name: value for name, value in environment.items() if name != service_variable()}


class Agent(TrialProcess):
    """An agent's process. It runs one trial at a time, and records it in the sweep's directory."""

    @classmethod
    def of(cls, sweep: str, directory: SweepDirectory, worker: int, environment: Mapping[str, str]) -> "Agent":
        """Start an agent for a worker; `sweep` is the sweep's path at W&B."""
        folder = directory.agent_folder(worker)
        folder.mkdir(parents=True, exist_ok=True)
        begin_again(folder / "agent.log")
        return cls.start(
            [sys.executable, "-m", __name__, sweep, str(directory.path), str(worker)],
            # WANDB_DIR: where the client keeps its trials' parameters. PATH: it calls `python` by that name. Not the
            # client's process that the registration started: it ends with us, and the agent continues.
            {
                **without_service(environment),
                **OURS,
                "WANDB_DIR": str(folder),
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath))),
            },
            log=folder / "agent.log",
            lock=folder / "agent.lock",
        )

    def send(self, number: signal.Signals) -> None:
        """Ask the agent to end, with its trial. It takes the second request as `now`, the third as SIGKILL."""
        super().send(signal.SIGTERM)
        if number == signal.SIGKILL:  # the third, by another number: two of the same that wait become one
            super().send(signal.SIGINT)


class RecordedTrials:
    """The trials of one agent, in the files of the sweep's directory."""

    def __init__(self, directory: SweepDirectory, worker: int) -> None:
        self._directory, self._worker = directory, worker
        self._running: dict[str, Trial] = {}

    def begin(self, run_id: str, parameters: dict[str, Any]) -> Path:
        """Record that a trial starts; return its log."""
        with FileLock(self._directory.path / "agents" / "numbers.lock"):  # agents number their trials together
            trials = self._directory.trials()
            found = next((trial for trial in trials if trial.run_id == run_id), None)
            trial = found or Trial(number=next_number(trials), run_id=run_id, parameters=parameters)
            self._directory.begin(trial, self._worker)
        self._running[run_id] = trial
        return self._directory.log(trial)

    def end(self, run_id: str, exit_code: int, killed: bool, stopped: bool) -> None:
        """Record how a trial has ended; `stopped`: W&B ended it for good, as by `wandb sweep --cancel`."""
        trial = self._running.pop(run_id)
        if stopped:
            note = self._directory.run_directory(trial).early_stop
            note.parent.mkdir(exist_ok=True)
            write_atomically(note, "stopped through W&B\n")
        settle(self._directory, trial, exit_code, interrupted=killed)


def main(sweep: str, folder: str, worker: str) -> int:
    """Run an agent; return 0 when the sweep has no more trials, else one of the exit codes above."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, note)
    trials = RecordedTrials(SweepDirectory(Path(folder)), int(worker))
    try:
        was_told_to_exit = run_agent(sweep, trials.begin, trials.end)
    except Exception:
        if end_in_wandb(sweep) == DELETED:
            return DELETED
        raise
    if asked:
        return exits.DONE
    code = end_in_wandb(sweep)
    if code == FORGOTTEN and was_told_to_exit:
        return exits.DONE
    if code == FORGOTTEN:
        print("error: W&B does not know this agent any more", file=sys.stderr)
    return code


def end_in_wandb(path: str) -> int:
    """Ask W&B why a sweep has no more trials, and return the agent's exit code: `FORGOTTEN` if the sweep continues.

    Raises:
        wandb.Error: W&B doesn't answer.
    """
    sweep = _sweep_in_wandb(path)
    if sweep is None:
        return DELETED
    state = sweep.state.upper()
    if state == "CANCELED":
        return CANCELLED
    if state != "FINISHED":
        return FORGOTTEN
    # `wandb sweep --stop` finishes a sweep. Not every search has an expected number of trials in W&B.
    return STOPPED if sweep.run_count < (sweep.expected_run_count or 0) else exits.DONE


def give_out_again(path: str) -> None:
    """Resume a finished sweep in which pre-empted trials wait: once all trials are given out, W&B has finished it.

    One that has ended before, as by `wandb sweep --stop`, stays so. So does a search without an expected number of
    trials, which ends in no other way.

    Raises:
        wandb.Error: W&B doesn't answer.
    """
    sweep = _sweep_in_wandb(path)
    if sweep is None or sweep.state.upper() != "FINISHED":
        return
    if sweep.expected_run_count is None or sweep.run_count < sweep.expected_run_count:
        return
    waiting = [run.id for run in sweep.runs if run.state.lower() in WAITING]
    if waiting:
        print(f"W&B has finished the sweep, and pre-empted trials wait: {', '.join(waiting)}", flush=True)
        resume_sweep(path)


def left_to_us(path: str, trials: Iterable[Trial]) -> list[Trial]:
    """Return those of these unfinished trials that W&B gives to no agent: all but the pre-empted ones.

    A trial that is running, as W&B says, may run on another machine, unless its process is known to have ended.

    Raises:
        wandb.Error: W&B doesn't answer.
    """
    sweep = _sweep_in_wandb(path)
    if sweep is None or sweep.state.upper() == "CANCELED":
        return []
    states = {run.id: run.state.lower() for run in sweep.runs}
    given_out = set() if sweep.state.upper() == "FINISHED" else WAITING
    return [
        trial
        for trial in trials
        if trial.run_id in states
        and states[trial.run_id] not in given_out
        and not (states[trial.run_id] == "running" and trial.exit_code is None)
    ]


def _sweep_in_wandb(path: str) -> Any:
    """Return the client's sweep, which has no type; None where W&B has it no more."""
    import wandb

    api: Any = wandb.Api()
    try:
        return api.sweep(path)
    except wandb.errors.CommError as error:
        if isinstance(error.exc, ValueError):  # W&B's answer has no such sweep
            return None
        raise


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
