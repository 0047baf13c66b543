"""The run's logger: Lightning's metrics, in `metrics.csv` and in W&B, in the same rows."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger
from typing_extensions import override

from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.metrics import MetricsFile, check_names
from textrnn.tracking.wandb_session import WandbRun


class RunLogger(Logger):
    """Writes what Lightning logs to `metrics.csv` and, with a W&B run, to W&B. Only rank 0 writes.

    The step of a row is the number of optimizer steps taken. Lightning's own count says one less for what is logged
    with a step than for what is logged after it, so the `step` it passes is not used: after `attach`, the trainer is
    asked. All values of one step share a row: the last training step of an epoch, the validation that follows it and,
    at the end, the test.
    """

    def __init__(self, run_dir: Path, identity: RunIdentity) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._identity = identity
        self.wandb_run: WandbRun | None = None
        """Where W&B's part of the record goes, from `attach` on; None without W&B and on ranks above 0."""
        self._trainer: pl.Trainer | None = None
        self._file: MetricsFile | None = None
        self.latest: dict[str, float] = {}
        """The last value of each metric, for progress lines and the summary; empty on ranks above 0."""

    @rank_zero_only
    def attach(self, trainer: pl.Trainer, wandb_run: WandbRun | None = None) -> None:
        """Open `metrics.csv`, take steps and epochs from `trainer`, log to `wandb_run` too; once, before `fit`."""
        self._trainer = trainer
        self.wandb_run = wandb_run
        self._file = MetricsFile(self._run_dir / "metrics.csv")

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics` at the trainer's global step; raises `ValueError` for a name that has no column."""
        if self._trainer is None or self._file is None:
            raise RuntimeError("RunLogger.attach(trainer) must come before the first metric")
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        check_names(values)
        if not values:
            return
        global_step = self._trainer.global_step
        self.latest.update(values)
        row = self._file.write(global_step, self._trainer.current_epoch, values)
        if self.wandb_run is not None:
            self.wandb_run.log({"epoch": row["epoch"], **values}, step=global_step)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `config.yaml` and W&B's config hold the whole configuration before training starts."""

    @rank_zero_only
    def close(self) -> None:
        """Close `metrics.csv`. The W&B run is finished by whoever started it, who knows how the run ended."""
        if self._file is not None:
            self._file.close()

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._run_dir)

    @property
    def name(self) -> str:
        """The run's name."""
        return self._identity.name

    @property
    def version(self) -> str:
        """The run's id."""
        return self._identity.id
