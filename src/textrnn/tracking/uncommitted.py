"""Uncommitted changes of the code that a run is made with, kept in its directory as `diff.patch` and in W&B.

Only tracked files of the program and its configuration: no untracked file, no data, no notebook.
"""

import os
import subprocess
from pathlib import Path

import textrnn
from textrnn.base.console import LOGGER
from textrnn.base.files import write_atomically
from textrnn.tracking.identity import GIT_TIMEOUT

KEPT = ("src", "conf", "sweeps", "*.py", "*.sbatch", "pyproject.toml", "constraints.txt")
"""Which files of the checkout."""
LARGEST = 1_000_000
"""Bytes that are kept at most."""


def keep_uncommitted(path: Path) -> None:
    """Write the changes to `path`, with a line about it; nothing where there are none, or where git doesn't answer."""
    checkout = Path(textrnn.__file__).resolve().parents[2]
    command = ["git", "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--", *KEPT]
    try:
        done = subprocess.run(
            command,
            cwd=checkout,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "0"},
            capture_output=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return
    size = len(done.stdout)
    if size > LARGEST:
        LOGGER.warning(f"the code's uncommitted changes are not kept: {size:,} bytes, {LARGEST:,} at most; commit them")
    elif size:
        write_atomically(path, done.stdout)
        LOGGER.info(f"the code's uncommitted changes are kept in {path}")


def may_be_uploaded() -> bool:
    """Return whether the user lets W&B have the code, by the client's variables."""
    return not any(
        os.environ.get(name, "").lower() in ("true", "1") for name in ("WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE")
    )
