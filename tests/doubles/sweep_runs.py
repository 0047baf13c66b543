"""Sweeps of a few seconds, as processes."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from doubles.quick_agent import AGENTS_LOOK_OFTEN
from support import ROOT

SMALL = (
    *("data=synthetic", "data.synthetic.train_reviews=300", "data.synthetic.test_reviews=60", "data.max_length=60"),
    *("model.hidden_size=8", "model.embedding.size=8", "data.batch_size=32"),
    *("trainer=cpu", "trainer.log_every_n_steps=2", "early_stopping.monitor=val/loss"),
)
BREAK = """
import os, sys
if set(sys.orig_argv) & set({texts!r}):
    print("RuntimeError: planted", file=sys.stderr, flush=True)
    os._exit(1)
"""
"""A module that Python imports at its start, where an exception would not end it; a broken trial takes no time."""


def sweep_file(place: Path, *, tracking: str = "none", **changes: Any) -> Path:
    config = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/loss", "goal": "minimize"},
        "parameters": {"optimizer.lr": {"values": [0.01]}},
        "command": [
            *("${env}", "${interpreter}", "${program}", *SMALL, f"tracking={tracking}"),
            *("resume=auto", "test=false", "${args_no_hyphens}"),
        ],
        **changes,
    }
    path = place / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def broken(tmp_path: Path, *texts: str) -> str:
    """Return a PYTHONPATH with which trials that have one of these arguments fail at once; agents poll often."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AGENTS_LOOK_OFTEN + BREAK.format(texts=texts))
    return f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def sweep_directory(workplace: Path) -> Path:
    (directory,) = (workplace / "runs").iterdir()
    return directory


def leaderboard(directory: Path) -> list[dict[str, str]]:
    with (directory / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def start(arguments: list[str], place: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(ROOT / "sweep.py"), *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait(process: "subprocess.Popen[str]", reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it was never reached"
        time.sleep(0.05)
