"""Names that tests share."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from textrnn.base.process import SPIN_COUNT

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
TESTS = ROOT / "tests"
IMDB = ROOT.parent / "shared" / "imdb"
"""The real reviews, which are not ours to commit; tests that need them skip without."""

Command = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `script`."""
OUT_OF_REACH = "http://127.0.0.1:9"
"""A closed port, which stands for a Hub and a W&B out of reach."""
KERNELS = "TEXTRNN_KERNELS"


def until(condition: Callable[[], object], why: Callable[[], str], deadline: float = 120) -> None:
    """Wait until a condition holds, `deadline` seconds at most; `why` gives the message if it never does."""
    limit = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < limit, why()
        time.sleep(0.05)


def environment_of(home: Path) -> dict[str, str]:
    """The caller's environment without accounts, launchers or settings that would steer a run."""
    steering = ("WANDB_", "HF_", "SLURM_", "TEXTRNN_", "HYDRA_", "XDG_", "NETRC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    # The last one the program sets itself, in this process too where a test runs it here.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", SPIN_COUNT):
        kept.pop(name, None)
    kept[KERNELS] = os.environ[KERNELS]
    # The user's home may hold a W&B login.
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_ENDPOINT": OUT_OF_REACH,
        "WANDB_BASE_URL": OUT_OF_REACH,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "default",
        "COLUMNS": "120",
    }
