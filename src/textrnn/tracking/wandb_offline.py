"""The client's files of a run's offline parts: what is in them, and which of them `wandb sync` leaves out."""

import json
import subprocess
import sys
from pathlib import Path

from textrnn.base.errors import InputError

INSPECT_TIMEOUT = 60.0
"""Time limit of W&B's viewer for a file, in seconds."""
HEADER_BYTES = 7
"""Size of a client's file without a record."""


def last_recorded_step(wandb_dir: Path, run_id: str) -> int:
    """Return the last step in the client's files of this run, as W&B's viewer reads them; -1 without any.

    A killed run's file ends where it was last flushed, some seconds before the kill.

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
    """Mark this run's offline files as uploaded, as `wandb sync` does: the resumed run uploads their rows."""
    for file in wandb_dir.glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
        file.with_name(f"{file.name}.synced").touch()


def pass_over_empty(wandb_dir: Path, run_id: str) -> None:
    """Mark this run's offline files without a record as uploaded: `wandb sync` would stop at one and upload nothing.

    A client that is killed in its first seconds leaves one.
    """
    for file in wandb_dir.glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"):
        if file.stat().st_size <= HEADER_BYTES:
            file.with_name(f"{file.name}.synced").touch()
