"""What W&B's client has left in a run directory: how far its files go, and which of them are of no use any more."""

import json
import subprocess
import sys
from pathlib import Path

from textrnn.errors import InputError

INSPECT_TIMEOUT = 60.0
"""Seconds that W&B's own viewer may take for a file."""


def last_recorded_step(wandb_dir: Path, run_id: str) -> int:
    """Return the last step that the client's files of this run hold, -1 without any; read by W&B's own viewer.

    The file of a killed run ends where it was last flushed, some seconds before the kill.

    Raises:
        InputError: for a file that the viewer can't read.
    """
    steps = [-1]
    for file in wandb_dir.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file.parent)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSPECT_TIMEOUT, check=True)
            values = json.loads(done.stdout)
        except (subprocess.SubprocessError, ValueError) as error:
            raise InputError(
                f"{file} can't be read by W&B's viewer ({error}); move it away, or type tracking=none."
            ) from error
        if "_step" in values["summary"]:
            steps.append(int(values["summary"]["_step"]))
    return max(steps)


def supersede(wandb_dir: Path, run_id: str) -> None:
    """Mark the offline files of this run as uploaded, as `wandb sync` does: the server gets their rows without it."""
    for file in wandb_dir.glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
        file.with_name(f"{file.name}.synced").touch()
