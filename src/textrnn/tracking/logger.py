"""The run's logger: Lightning's metrics in `metrics.csv` and W&B, in the same rows."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger
from typing_extensions import override

from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.metrics_csv import MetricsFile, Row, check_names, read_metrics
from textrnn.tracking.trackers import OpenTracker
from textrnn.tracking.wandb_run import WandbRun


class RunLogger(Logger):
    """Write what Lightning logs to `metrics.csv` and, with a W&B run, to W&B. Only rank 0 writes.

    The step of a row is the number of optimizer steps taken. The `step` that Lightning passes is not used, as it is one
    less for metrics that are logged with a step than for those logged after it; the trainer has the right one. All
    values of one step share a row: the last training step of an epoch, the validation that follows it and, at the end,
    the test.

    W&B can't change a logged row, so a row is logged there once it is complete: when the next one begins or at the end
    of the run. A resumed run first logs the rows that are missing in W&B. Another tracker gets all
    rows.
    """

    def __init__(self, run_dir: Path, identity: RunIdentity) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._identity = identity
        self._wandb_run: WandbRun | None = None
        self._tracker: OpenTracker | None = None
        self._trainer: pl.Trainer | None = None
        self._file: MetricsFile | None = None
        self._open_row: Row | None = None  # the last row, which may get more values
        self._media: dict[int, dict[str, Any]] = {}  # by step, values of W&B's row besides the metrics
        self.latest: dict[str, float] = {}
        """The last value of each metric, for progress lines and the summary; empty on ranks above 0."""

    @rank_zero_only
    def attach(
        self, trainer: pl.Trainer, wandb_run: WandbRun | None = None, tracker: OpenTracker | None = None
    ) -> None:
        """Open `metrics.csv`, take steps and epochs from `trainer`, log to W&B or a tracker too; once, before `fit`."""
        self._trainer = trainer
        self._wandb_run = wandb_run
        self._tracker = tracker
        path = self._run_dir / "metrics.csv"
        self._file = MetricsFile(path)
        for row in read_metrics(path):
            self._begin(row)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics` at the trainer's global step; raises `ValueError` for a name without a column."""
        if self._trainer is None or self._file is None:
            raise RuntimeError("RunLogger.attach(trainer) must come before the first metric")
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        check_names(values)
        if not values:
            return
        global_step = self._trainer.global_step
        self.latest.update(values)
        epoch = self._trainer.current_epoch
        if self._trainer.testing:
            # Lightning counts the last epoch as finished, except in a resumed run whose epoch a limit cut short.
            epoch = max(epoch - 1, self._file.last_epoch)
        self._begin(self._file.write(global_step, epoch, values))

    @property
    def has_wandb_run(self) -> bool:
        """Whether `add_media` has a W&B run to log to; never on ranks above 0."""
        return self._wandb_run is not None

    @rank_zero_only
    def add_media(self, step: int, media: Mapping[str, Any]) -> None:
        """Add histograms, charts or tables to W&B's row of `step`, the open or a later one; not to `metrics.csv`."""
        self._media.setdefault(step, {}).update(media)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `config.yaml` and W&B's config hold the whole configuration before training starts."""

    @rank_zero_only
    def close(self, *, over: bool) -> None:
        """Close `metrics.csv` and send its last row to W&B, unless a resumed run may add to that row.

        `over`: whether the run has ended for good. The caller that started the W&B run finishes it.
        """
        if self._file is not None:
            self._file.close()
        if self._trainer is not None and self._open_row is not None:
            if over or self._open_row["step"] < self._trainer.global_step:
                self._send(self._open_row)
                for step in sorted(self._media):  # steps without a row
                    self._send({"step": step, "epoch": self._open_row["epoch"]})
            self._open_row = None

    def _begin(self, row: Row) -> None:
        """Make `row` the open row; if another was open, it is complete and logged to W&B."""
        if self._open_row is not None and self._open_row["step"] != row["step"]:
            self._send(self._open_row)
        self._open_row = dict(row)

    def _send(self, row: Row) -> None:
        step = int(row["step"])
        media = self._media.pop(step, {})
        metrics = {name: value for name, value in row.items() if name != "step"}
        if self._wandb_run is not None:
            self._wandb_run.log({**metrics, **media}, step=step)
        if self._tracker is not None:
            self._tracker.log(metrics, step=step)

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
