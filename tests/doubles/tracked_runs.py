"""Runs of train.py in W&B's loopback server, compared with the run directory."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from doubles.run_files import TIMINGS
from doubles.wandb_server import ServerRun, WandbServer

KEY = "0123456789abcdef" * 2 + "secret42"


AFTER_THE_END = 2
"""Lines of `train.log` that may be logged after the W&B run has ended."""


def log_in(environment: dict[str, str], server: WandbServer) -> None:
    environment |= {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": KEY,
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_ERROR_REPORTING": "false",
    }


def rows_of(run: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv in the form of W&B's history."""
    with (run / "metrics.csv").open() as file:
        rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    return [{"_step": row.pop("step"), **row} for row in rows]


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without timings, and without the charts of W&B's last row."""
    return [
        {name: value for name, value in row.items() if name not in TIMINGS and isinstance(value, int | float | str)}
        for row in rows
    ]


def summary_of(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return values


def logs_of(arrived: ServerRun) -> list[str]:
    """Return the lines of W&B's Logs without the times that the client puts before them."""
    return [arrived.log[number].partition(" ")[2] for number in sorted(arrived.log)]


def only_run(server: WandbServer) -> ServerRun:
    (run,) = server.runs.values()
    return run


def assert_whole(server: WandbServer, run: Path) -> None:
    """Assert that W&B has one run, with every row and log line once and in order, and the run directory's summary."""
    arrived = only_run(server)
    steps = [row["_step"] for row in arrived.rows]
    assert steps == sorted(set(steps))
    assert untimed(arrived.rows) == untimed(rows_of(run))
    # The client removes what is None, also over an earlier value.
    assert {name: arrived.summary.get(name) for name in summary_of(run)} == summary_of(run)
    logged = (run / "train.log").read_text().splitlines()
    assert logs_of(arrived) == logged[: len(arrived.log)]
    assert len(logged) - len(arrived.log) <= AFTER_THE_END
    assert arrived.exit_code == 0
    assert arrived.state == "finished"


def sync(environment: dict[str, str], *folders: Path) -> None:
    command = [sys.executable, "-m", "wandb", "sync", "--no-skip-online", *map(str, folders)]
    subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)


def wandb_core(parent: int) -> int:
    """Return the process of the client's service that belongs to a run."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if command[0].endswith(b"wandb-core") and str(parent).encode() in command:
            return int(folder.name)
    raise AssertionError(f"process {parent} has no wandb-core")
