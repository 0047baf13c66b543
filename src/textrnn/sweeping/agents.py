"""W&B's agents: the sweep's registration, and what an agent's log says of its trials.

An agent's exit code is 0 whatever becomes of its trials, and it tells nobody theirs. But it logs when it has started
and cleaned up each of them; how one ended stands in its run directory.
"""

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from textrnn.config import Config
from textrnn.errors import InputError
from textrnn.sweeping.processes import TrialProcess, find_program, last_words
from textrnn.sweeping.sweep_file import Sweep

STARTED = re.compile(r"INFO - Running runs: \['([\w-]+)'\]")
ENDED = re.compile(r"INFO - Cleaning up finished run: ([\w-]+)")


def register(sweep: Sweep, config: Config) -> str:
    """Makes the sweep at W&B and returns its path there, ENTITY/PROJECT/ID or PROJECT/ID.

    Raises:
        InputError: when W&B refuses it.
    """
    import wandb

    # What is typed goes before the file, and the file before the environment.
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
        print(f"to look at it: {url[1]}")
    return "/".join(part for part in (entity, project, name) if part)


class Agent:
    """One `wandb agent`, which runs one trial at a time."""

    def __init__(self, path: str, folder: Path, environment: Mapping[str, str]) -> None:
        from wandb.env import SERVICE

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._log = folder / "agent.log"
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self._since = self._read
        self._sweep = path.rpartition("/")[2]
        self._process = TrialProcess.start(
            [sys.executable, "-m", "wandb", "agent", "--forward-signals", path],
            # WANDB_DIR: where an agent keeps what it gave its trials. PATH: an agent calls `python` by that name.
            # Not SERVICE, the client's process that the registration started: it ends with us, and the agent goes on.
            {
                **{name: value for name, value in environment.items() if name != SERVICE},
                "WANDB_DIR": str(folder),
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath))),
            },
            log=self._log,
            lock=folder / "agent.lock",
        )
        self._times_told = 0

    def has_ended(self) -> bool:
        """Whether the agent is over."""
        return self._process.has_ended()

    def send(self, number: signal.Signals) -> None:
        """Asks the agent to end, with its trial. It takes the second request as `now`, the third as SIGKILL."""
        for _ in range(2 if number == signal.SIGKILL else 1):
            self._process.send(signal.SIGTERM)

    def events(self) -> Iterator[tuple[str, bool]]:
        """The trials that have started (True) and ended (False) since the last call."""
        content = self._log.read_bytes()
        end = content.rfind(b"\n") + 1
        for line in content[self._read : end].splitlines(keepends=True):
            self._read += len(line)
            text = line.decode(errors="replace")
            if started := STARTED.search(text):
                yield started[1], True
            elif ended := ENDED.search(text):
                yield ended[1], False
                self._since = self._read

    def last_words(self) -> str:
        """Why its current trial, or the agent itself, failed: a line of what was printed since the trial before."""
        return last_words(self._log, since=self._since)

    def parameters(self, run: str) -> dict[str, Any]:
        """What the agent gave a trial."""
        path = self._folder / "wandb" / f"sweep-{self._sweep}" / f"config-{run}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: item["value"] for key, item in content.items() if key != "wandb_version"}
