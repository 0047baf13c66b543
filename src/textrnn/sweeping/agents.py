"""W&B's agents: the sweep's registration, the agent's process, and its log, which says when trials start and end.

How a trial ended is in its run directory. But an agent's exit code is 0 whatever its trials', it reports none of
theirs, and a trial that fails before it has a run directory is known from the agent's log alone.
"""

import contextlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textrnn.base.errors import InputError
from textrnn.config.schema import Config
from textrnn.sweeping.processes import TrialProcess, error_line, find_program
from textrnn.sweeping.sweep_file import Sweep

SAYS = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) - \S+ - INFO - "
STARTING = re.compile(SAYS + r"About to run command: ")
STARTED = re.compile(SAYS + r"Running runs: \['([\w-]+)'\]")
ENDED = re.compile(SAYS + r"Cleaning up finished run: ([\w-]+)")
CHATTER = re.compile((SAYS + ".*").encode())


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


@dataclass(kw_only=True, slots=True)
class Event:
    """A trial has started, or ended."""

    run_id: str
    when: float
    """Seconds since 1970."""
    last_line: str | None
    """Of a trial that has ended, the line that says why it failed, if it did; None of one that has started."""


class AgentLog:
    """The folder of a worker's agents, with the log that all of them append to, one after another."""

    def __init__(self, folder: Path, sweep: str) -> None:
        self.folder = folder
        self.path = folder / "agent.log"
        self.lock = folder / "agent.lock"
        """Held while an agent lives, whoever started it."""
        self._sweep = sweep
        self._read = 0
        self._starting: float | None = None
        """When the trial started that the agent has not named yet."""
        self._since = 0

    def events(self) -> Iterator[Event]:
        """Yield the events since the last call; at first, since the sweep began."""
        content = self._content()
        end = content.rfind(b"\n") + 1
        for line in content[self._read : end].splitlines(keepends=True):
            self._read += len(line)
            text = line.decode(errors="replace")
            if starting := STARTING.search(text):
                self._starting = _seconds(starting)
            elif started := STARTED.search(text):  # logged at the agent's next poll, five seconds later
                when, self._starting = self._starting or _seconds(started), None
                yield Event(run_id=started[3], when=when, last_line=None)
            elif ended := ENDED.search(text):
                reason = _error_line(content[self._since : self._read])
                self._since = self._read
                yield Event(run_id=ended[3], when=_seconds(ended), last_line=reason)

    def last_line(self) -> str:
        """Return why the last trial, or the agent itself, failed: a line of the log since the trial before."""
        return _error_line(self._content()[self._since :])

    def lost_its_sweep(self) -> bool:
        """Whether the agent ended because somebody has deleted the sweep."""
        return b"Sweep was deleted or agent was not found" in self._content()[self._since :]

    def parameters(self, run_id: str) -> dict[str, Any]:
        """Return the parameters that an agent gave a trial."""
        path = self.folder / "wandb" / f"sweep-{self._sweep}" / f"config-{run_id}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: item["value"] for key, item in content.items() if key != "wandb_version"}

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""


def _error_line(content: bytes) -> str:
    """Return the line that names an error; the agent's own lines name none."""
    return error_line(CHATTER.sub(b"", content))


def _seconds(logged: re.Match[str]) -> float:
    return time.mktime(time.strptime(logged[1], "%Y-%m-%d %H:%M:%S")) + int(logged[2]) / 1000


class Agent:
    """One `wandb agent`, which runs one trial at a time."""

    def __init__(self, path: str, log: AgentLog, environment: Mapping[str, str]) -> None:
        from wandb.env import SERVICE

        self.log = log
        log.folder.mkdir(parents=True, exist_ok=True)
        self._process = TrialProcess.start(
            [sys.executable, "-m", "wandb", "agent", "--forward-signals", path],
            # WANDB_DIR: where an agent keeps its trials' parameters. PATH: an agent calls `python` by that name.
            # Not SERVICE, the client's process that the registration started: it ends with us, and the agent continues.
            {
                **{name: value for name, value in environment.items() if name != SERVICE},
                "WANDB_DIR": str(log.folder),
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath))),
            },
            log=log.path,
            lock=log.lock,
        )

    def has_ended(self) -> bool:
        """Whether the agent is over."""
        return self._process.has_ended()

    @property
    def exit_code(self) -> int | None:
        """Its exit code once it is over: 0 whatever its trials' were, 1 where W&B did not answer it."""
        return self._process.exit_code

    def send(self, number: signal.Signals) -> None:
        """Ask the agent to end, with its trial. It takes the second request as `now`, the third as SIGKILL."""
        self._process.send(signal.SIGTERM)
        if number == signal.SIGKILL:  # the third, by another number: two of the same that wait become one
            self._process.send(signal.SIGINT)
