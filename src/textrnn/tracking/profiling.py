"""Profile of training steps (`trainer.profiler`), as files in the run directory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from torch.profiler import ProfilerActivity
from typing_extensions import override

from textrnn.base.console import LOGGER
from textrnn.base.files import write_csv
from textrnn.tracking.plots import Operation, plot_profile
from textrnn.tracking.run_directory import RunDirectory

PROFILED_BATCHES = 3
"""Number of recorded training batches. On a CPU one may have 100,000 operations, and torch sums up some 10,000 per
second."""

_EVALUATED = "autograd::engine::evaluate_function: "


def lightning_profiler(name: str | None, run_dir: Path) -> Profiler | None:
    """Return Lightning's profiler "simple" or "advanced", which writes `<run_dir>/fit-profile.txt`.

    None for "pytorch", which `StepProfile` does: Lightning's profiler would write traces of 50 MB and warn of short
    runs.
    """
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    return kinds[name](dirpath=run_dir, filename="profile") if name in kinds else None


class StepProfile(pl.Callback):
    """Record the operations of a few training batches and, after training, write `profile.csv` and `profile.png`.

    It records `PROFILED_BATCHES` whole steps, including the wait for data, from the second batch on (the first one
    includes the set-up), or fewer if validation or the end of training comes first. The time of an operation excludes
    the operations that it calls; it is the device's on a GPU, else the CPU's.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._profile: torch.profiler.profile | None = None
        self._trained = 0  # batches in this process
        self._recorded = 0
        self._running = False

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start with the second batch of this process, or with the first one if it is the only one."""
        if self._profile is not None:
            return
        alone = trainer.num_training_batches == 1 or trainer.max_steps == 1
        if self._trained > 0 or alone:
            self._start(pl_module.device)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the last recorded batch."""
        self._trained += 1
        self._recorded += self._running
        if self._recorded == PROFILED_BATCHES:
            self._stop()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exclude validation."""
        self._stop()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop recording."""
        self._stop()

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write table and picture."""
        self._stop()
        if self._profile is None:
            LOGGER.warning("trainer.profiler=pytorch: no batch was trained, so there is no profile")
            return
        on_device = pl_module.device.type == "cuda"
        operations = measured_operations(self._profile.key_averages(), on_device=on_device)
        rows = [(o.name, o.calls, f"{o.self_ms:.3f}", f"{o.share:.4f}", f"{o.total_ms:.3f}") for o in operations]
        write_csv(self._directory.profile_csv, ["operation", "calls", "self_ms", "share", "total_ms"], rows)
        where, milliseconds = "GPU" if on_device else "CPU", sum(operation.self_ms for operation in operations)
        title = f"{self._recorded} training batches, {milliseconds:,.0f} ms of {where} time"
        plot_profile(operations, self._directory.profile_png, title=title)
        first = operations[0]
        LOGGER.info(
            f"profile of {self._recorded} training batches, most time in {first.name} ({first.share:.0%}): "
            f"{self._directory.profile_png}, {self._directory.profile_csv.name}"
        )

    def _start(self, device: torch.device) -> None:
        # torch's library for traces prints a line at its start and its end.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profile = torch.profiler.profile(activities=activities)
        self._profile.start()
        self._running = True

    def _stop(self) -> None:
        if self._running and self._profile is not None:
            self._profile.stop()
            self._running = False


def measured_operations(events: Sequence[Any], *, on_device: bool) -> list[Operation]:
    """Return operations with their own time, the longest first, from `torch.profiler.profile.key_averages()`.

    On a GPU a kernel's time counts for the operation that launched it; the kernel's own event is left out.
    """
    kind = "device" if on_device else "cpu"
    of_operations = [event for event in events if event.device_type.name == "CPU"]
    total = sum(getattr(event, f"self_{kind}_time_total") for event in of_operations)
    operations = [
        Operation(
            name=event.key.removeprefix("aten::").replace(_EVALUATED, "autograd of "),
            calls=event.count,
            self_ms=getattr(event, f"self_{kind}_time_total") / 1000,
            total_ms=getattr(event, f"{kind}_time_total") / 1000,
            share=getattr(event, f"self_{kind}_time_total") / total,
        )
        for event in of_operations
    ]
    return sorted(operations, key=lambda operation: operation.self_ms, reverse=True)
