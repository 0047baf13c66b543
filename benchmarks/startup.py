"""Start-up time: seconds from a command to its result or its first step, in new processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import ROOT
from report import Claim, Report
from reviews import data_config, open_store
from settings import Settings
from timing import Stopwatch, paired

FIRST_STEP_TIMEOUT = 300.0
STEERING = ("TEXTRNN_RUN", "TEXTRNN_ALLOCATOR", "WANDB_")
"""Environment variables that would steer the commands; where compiled kernels are kept does not."""
REVIEW = "A fine film, and a moving one."


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    data = data_config(settings.data_path, quick=settings.quick)
    open_store(data)  # the first step is measured with a store that is there
    reviews = ["data=synthetic"] if data.path is None else [f"data.path={Path(data.path).resolve()}"]
    if settings.quick:
        reviews += [f"data.synthetic.{key}={value}" for key, value in asdict(data.synthetic).items()]
        reviews += ["model.hidden_size=16"]
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _first_step(place / "trained", reviews)
        checkpoint = place / "trained" / "checkpoints" / "last.ckpt"
        numbers = iter(range(10**6))
        commands: dict[str, tuple[float, Callable[[int], float]]] = {
            "train.py --help": (1.5, _command(place, "train.py", "--help")),
            "train.py --cfg job": (1.5, _command(place, "train.py", "--cfg", "job")),
            "train.py with a typo": (1.5, _command(place, "train.py", "model.hiden_size=64", code=2)),
            "predict.py RUN TEXT": (3.0, _command(place, "predict.py", str(checkpoint), REVIEW)),
            "train.py to its first step": (10.0, lambda _: _first_step(place / f"run{next(numbers)}", reviews)),
        }
        values = paired({name: measure for name, (_, measure) in commands.items()}, settings.repeats)
    for name, seconds in values.items():
        report.claims.append(Claim(name=name, values=seconds, unit="s", at_most=commands[name][0]))


def _command(place: Path, script: str, *arguments: str, code: int = 0) -> Callable[[int], float]:
    """Return the seconds until a command has ended, with the expected exit code."""

    def measure(_: int) -> float:
        with Stopwatch() as watch:
            done = subprocess.run(
                [sys.executable, str(ROOT / script), *arguments],
                cwd=place,
                env=_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != code:
            raise RuntimeError(f"{script} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return watch.seconds

    return measure


def _first_step(run_dir: Path, reviews: list[str]) -> float:
    """Return the seconds until `metrics.csv` has the row of the first training step; W&B is offline."""
    arguments = ["trainer.max_steps=1", "trainer.log_every_n_steps=1", "trainer.limit_val_batches=0", "test=false"]
    command = [sys.executable, str(ROOT / "train.py"), "tracking=offline", f"run_dir={run_dir}", *reviews, *arguments]
    started = time.perf_counter()
    metrics = run_dir / "metrics.csv"
    with subprocess.Popen(
        command, cwd=run_dir.parent, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while not (metrics.is_file() and metrics.read_text(encoding="utf-8").count("\n") > 1):
            if process.poll() is not None or time.perf_counter() - started > FIRST_STEP_TIMEOUT:
                process.kill()
                raise RuntimeError(f"{' '.join(command)} took no step: {process.stdout and process.stdout.read()}")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        process.communicate()
    return seconds


def _environment() -> dict[str, str]:
    """Return this process's environment without variables that would make the commands ranks of another run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
