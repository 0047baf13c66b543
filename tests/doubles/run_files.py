"""Small runs: command lines, processes, and the files that they wrote, without timings."""

import csv
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from doubles import fork_server
from support import ROOT

from textrnn.data.store import Store

SMALL = (
    "data=synthetic",
    "data.synthetic.train_reviews=300",
    "data.synthetic.test_reviews=60",
    "data.max_length=60",
    "model.hidden_size=8",
    "model.embedding.size=8",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=2",
    "data.batch_size=32",
    "tracking=none",
)
LONGER = (*SMALL, "trainer.max_epochs=6", "checkpoint.every_n_train_steps=3", "resume=auto")
LONGEST = (*LONGER, "trainer.max_epochs=16", "early_stopping.patience=null")
"""144 steps: enough for several kills, on fast machines too."""
TIMINGS = {"train/tokens_per_second", "seconds", "waited_seconds"}


def metrics(run: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv without timings."""
    with (run / "metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIMINGS} for row in csv.DictReader(file)]


def assert_same_metrics(run: Path, other: Path) -> None:
    """Both runs have the same `metrics.csv` in float64, but for the padding, which each world size has its own of."""
    for row, of_other in zip(metrics(run), metrics(other), strict=True):
        for name in row.keys() - {"train/padding"}:
            same = row[name] == of_other[name] or float(row[name]) == pytest.approx(float(of_other[name]), abs=1e-10)
            assert same, f"{name}: {row[name]} and {of_other[name]}"


def summary(run: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in values.items() if name not in TIMINGS}


def predictions(run: Path, split: str = "test") -> list[dict[str, str]]:
    """Return the rows of predictions.csv."""
    with (run / f"evaluation-{split}" / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def only_store(environment: Mapping[str, str]) -> Store:
    """Return the only token store below a home."""
    (path,) = Path(environment["XDG_CACHE_HOME"]).glob("textrnn/stores/[!.]*/")
    return Store(path)


def json_of(path: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads(path.read_text())
    return values


def start(arguments: tuple[str, ...], place: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return fork_server.start([str(ROOT / "train.py"), *arguments], cwd=place, env=environment, **silent)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "metrics.csv").is_file() and any(int(row["step"]) >= step for row in metrics(run)):
            return
        time.sleep(0.03)
    assert process.poll() is not None, "the run took no step"


def last_step(run: Path) -> int:
    """Return the last step in metrics.csv; a resumed process that is past it has begun to train."""
    return max((int(row["step"]) for row in metrics(run)), default=0) if (run / "metrics.csv").is_file() else 0
