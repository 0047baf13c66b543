"""Memory of a run: its peak, and its size after each of ten epochs, each of a tenth of the training batches."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import ROOT
from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.tracking.metrics_csv import read_metrics

CELLS = ("gru", "lstm", "rnn")
EPOCHS = 10
TIMEOUT = 1800.0
STEERING = ("TEXTRNN_RUN", "TEXTRNN_ALLOCATOR", "WANDB_")
"""Environment variables that would steer the run; where compiled kernels are kept does not."""


def run(settings: Settings, report: Report) -> None:
    """Measure, once, and fill in the report."""
    report.settings["repeats"] = 1
    data = data_config(settings.data_path, quick=settings.quick)
    open_store(data)
    arguments = ["data=synthetic"] if data.path is None else [f"data.path={Path(data.path).resolve()}"]
    if settings.quick:
        few = data.synthetic
        arguments += [f"data.synthetic.train_reviews={few.train_reviews}", "data.batch_size=8", "model.hidden_size=16"]
    resident = Table(title="resident memory after an epoch", unit="MiB")
    report.tables.append(resident)
    for cell in CELLS[:1] if settings.quick else CELLS:
        with TemporaryDirectory() as folder:
            epochs, peak = _train(Path(folder) / "run", [f"model={cell}", *arguments])
        for number, mebibytes in enumerate(epochs, 1):
            resident.add(cell, f"{number}", [mebibytes])
        report.claims.append(Claim(name=f"{cell}: peak of a run", values=[peak], unit="MiB"))
        growth = epochs[-1] / epochs[1]
        report.claims.append(Claim(name=f"{cell}: memory after ten epochs over two", values=[growth], at_most=1.05))


def _train(run_dir: Path, arguments: list[str]) -> tuple[list[float], float]:
    """Return the resident memory after each epoch, and the peak, in MiB."""
    fixed = ["tracking=none", "test=false", "early_stopping.patience=null", "trainer.limit_val_batches=4"]
    fixed += [f"trainer.max_epochs={EPOCHS}", "trainer.limit_train_batches=0.1", f"run_dir={run_dir}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    command = [sys.executable, str(ROOT / "train.py"), *fixed, *arguments]
    epochs: list[float] = []
    peak, deadline, metrics = 0.0, time.monotonic() + TIMEOUT, run_dir / "metrics.csv"
    with subprocess.Popen(
        command, cwd=run_dir.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and time.monotonic() < deadline:
            validated = sum("val/loss" in row for row in read_metrics(metrics)) if metrics.is_file() else 0
            held = _mebibytes(process.pid)
            if held:
                epochs += [held["VmRSS"]] * (validated - len(epochs))
                peak = max(peak, held["VmHWM"])
            time.sleep(0.05)
        if process.wait() != 0 or len(epochs) < EPOCHS:
            raise RuntimeError(f"training ended with {process.returncode} after {len(epochs)} of {EPOCHS} epochs")
    return epochs, peak


def _mebibytes(process: int) -> dict[str, float]:
    """Return VmRSS (now) and VmHWM (peak) of a process; empty once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    fields = (line.split(":", 1) for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
    return {name: int(value.split()[0]) / 1024 for name, value in fields}
