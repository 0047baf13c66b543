"""Profiles of real training: what is recorded, and what lies in the run directory afterwards."""

import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.small_runs import Loader, fit, make_batch, make_module, make_trainer
from support import Command

from textrnn.tracking.profiling import PROFILED_BATCHES, StepProfile, measured_operations
from textrnn.tracking.run_directory import RunDirectory

SMALL = (
    "data=synthetic",
    "data.synthetic.train_reviews=500",
    "data.synthetic.test_reviews=50",
    "trainer=debug",
    "tracking=none",
    "model.hidden_size=8",
    "model.embedding.size=8",
    "run_dir=run",
)


@pytest.mark.parametrize(("batches", "epochs", "recorded"), [(1, 1, 1), (2, 1, 1), (3, 2, 2), (9, 1, PROFILED_BATCHES)])
def test_a_few_batches_after_the_first_are_recorded(
    batches: int, epochs: int, recorded: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = RunDirectory.join(tmp_path)
    trainer = make_trainer(StepProfile(directory), max_epochs=epochs)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        fit(trainer, make_module(), Loader([make_batch(4, seed=n) for n in range(batches)]))
    (line,) = [message for message in caplog.messages if message.startswith("profile of ")]
    assert line.startswith(f"profile of {recorded} training batches")
    assert str(directory.profile_png) in line
    assert directory.profile_png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with directory.profile_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["operation"] in line
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=0.0001 * len(rows))
    times = [float(row["self_ms"]) for row in rows]
    assert times == sorted(times, reverse=True)
    steps = {row["operation"]: int(row["calls"]) for row in rows}
    assert steps["Optimizer.step#AdamW.step"] == recorded


def test_on_a_gpu_its_time_counts_for_the_operation_that_launched_it() -> None:
    def event(kind: str, key: str, cpu: float, device: float) -> SimpleNamespace:
        return SimpleNamespace(
            key=key,
            count=2,
            device_type=SimpleNamespace(name=kind),
            self_cpu_time_total=cpu,
            cpu_time_total=cpu,
            self_device_time_total=device,
            device_time_total=device,
        )

    events = [
        event("CPU", "aten::mm", 10, 3000),
        event("CPU", "autograd::engine::evaluate_function: MmBackward0", 30, 1000),
        event("CUDA", "gemm_kernel", 0, 3000),
    ]
    on_device = measured_operations(events, on_device=True)
    assert [(item.name, item.self_ms, item.share) for item in on_device] == [
        ("mm", 3.0, 0.75),
        ("autograd of MmBackward0", 1.0, 0.25),
    ]
    assert [item.share for item in measured_operations(events, on_device=False)] == [0.75, 0.25]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profiler", "reports"),
    [
        ("pytorch", {"profile.csv", "profile.png"}),
        ("simple", {"fit-profile.txt", "test-profile.txt"}),
        ("advanced", {"fit-profile.txt", "test-profile.txt"}),
    ],
)
def test_reports_land_in_the_run_directory(
    script: Command, cold_script: Command, workplace: Path, profiler: str, reports: set[str]
) -> None:
    # The libraries' imports must not warn either.
    done = (cold_script if profiler == "simple" else script)("train.py", *SMALL, f"trainer.profiler={profiler}")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (workplace / "run").glob("*profile*")} == reports
    output = done.stdout + done.stderr
    assert "Warning" not in output
    assert "profiler_start" not in output
    assert "Profiler Report" not in output
