"""Look-up of runs: seconds and memory of `textrnn runs` on 10,000 synthetic run directories, first and again.

Half of the runs are trials of sweeps; a hundredth has no end. First means without an index, with the files in the
system's cache.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from machine import ROOT
from report import Claim, Report, Table
from settings import Settings
from textrnn.config.schema import Config
from timing import Stopwatch

RUNS, TRIALS = 10_000, 30
COMMANDS = {
    "ls": ("ls",),
    "ls --where --sort": ("ls", "--flat", "--where", "val/accuracy>0.9", "--sort", "-val/accuracy"),
    "best": ("best",),
}
AT_MOST = {"first": 30.0, "again": 5.0}
"""Targets in seconds."""
PROGRAM = """
import contextlib, sys, textrnn.cli
with contextlib.suppress(SystemExit):
    textrnn.cli.run("runs", sys.argv[1:])
print(open("/proc/self/status").read(), file=sys.stderr)
"""
"""The peak of a child's `getrusage` would include that of its parent, which has torch."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    number = 60 if settings.quick else RUNS
    report.settings["runs"] = number
    peaks: dict[str, dict[str, list[float]]] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        make_runs(place / "runs", number)

        def seconds(name: str, when: str) -> float:
            if when == "first":
                shutil.rmtree(place / "cache", ignore_errors=True)
            took, peak = _command(place, COMMANDS[name])
            peaks.setdefault(name, {}).setdefault(when, []).append(peak)
            return took

        for name in COMMANDS:
            values: dict[str, list[float]] = {when: [] for when in AT_MOST}
            for _ in range(settings.repeats):
                for when in AT_MOST:  # the first call makes the index of the second
                    values[when].append(seconds(name, when))
            for when, limit in AT_MOST.items():
                claim = f"textrnn runs {name}, {when}"
                report.claims.append(Claim(name=claim, values=values[when], unit="s", at_most=limit))
        helps = [_command(place, ("--help",))[0] for _ in range(settings.repeats)]
        report.claims.append(Claim(name="textrnn runs --help", values=helps, unit="s", at_most=0.3))
    table = Table(title="peak memory", unit="MB")
    for name, times in peaks.items():
        for when, megabytes in times.items():
            table.add(f"textrnn runs {name}", when, megabytes)
    report.tables.append(table)


def make_runs(folder: Path, number: int) -> None:
    """Make run directories as they are after a run: half of them trials of sweeps, a hundredth without an end."""
    draw = random.Random(0)
    for place in range(number):
        sweep = place % 2 == 1
        path = folder / f"sweep{place // (2 * TRIALS):04}" / f"{place:08}" if sweep else folder / f"run-{place:08}"
        path.mkdir(parents=True)
        if sweep:
            (path.parent / "sweep.yaml").touch()
        config = Config(run_dir=str(path), seed=draw.randrange(5))
        config.model.cell = draw.choice(("rnn", "lstm", "gru"))
        config.model.hidden_size = draw.randrange(32, 512)
        config.optimizer.lr = draw.random()
        (path / "config.yaml").write_text(yaml.dump(asdict(config), Dumper=yaml.CSafeDumper, sort_keys=False))
        identity = {"id": path.name, "name": f"{config.model.cell} s{config.seed}", "seed": config.seed}
        known = {"created": f"2026-{1 + place % 12:02}-01T00:00:00+00:00", "git_commit": "0" * 40, "version": "1"}
        command = ["train.py", *(f"model.hidden_size={config.model.hidden_size}" for _ in range(12))]
        (path / "run.json").write_text(json.dumps({**identity, **known, "command": command}, indent=2))
        (path / ".lock").touch()
        if place % 100:
            metrics = {name: draw.random() for name in ("train/loss", "val/loss", "val/accuracy", "test/accuracy")}
            result = {"status": "finished", "parameters": 10_000, "tokens": 10**6, "seconds": 60.0, "step": 1000}
            (path / "summary.json").write_text(json.dumps({**metrics, **result}, indent=2))
        for file in path.iterdir():
            os.utime(file, (1.7e9, 1.7e9))  # as of a run that has ended some time ago


def _command(place: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Return the seconds of a command of `textrnn runs`, and its peak memory in MB."""
    environment = os.environ | {"XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with Stopwatch() as watch:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True)
    return watch.seconds, int(done.stderr.rpartition("VmHWM:")[2].split()[0]) * 1024 / 1e6
