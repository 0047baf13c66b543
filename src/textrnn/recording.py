"""What a run writes at its start and its end, in its directory and in W&B."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pytorch_lightning as pl
import yaml

from textrnn.data.batches import device_share
from textrnn.data.module import ReviewsDataModule
from textrnn.data.sources import SPLITS
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.network import parameter_counts
from textrnn.preemption import EarlyStop
from textrnn.reporting import report_data, report_model
from textrnn.runs import Run
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.metrics import Row, read_metrics, repair
from textrnn.tracking.plots import plot_curves
from textrnn.tracking.predictions import Predictions
from textrnn.tracking.rundir import write_atomically
from textrnn.tracking.summary import RunSummary, write_summary
from textrnn.tracking.throughput import Throughput
from textrnn.tracking.wandb_end import end_wandb_run, open_record, told_of_failures
from textrnn.tracking.wandb_session import WandbRun


@dataclass(kw_only=True, slots=True)
class Parts:
    """What `fit` needs."""

    module: ReviewClassifier
    data: ReviewsDataModule
    trainer: pl.Trainer
    logger: RunLogger
    throughput: Throughput
    predictions: Predictions
    coverage: dict[str, float]
    """By pretrained vectors; see `RunSummary.coverage`."""


def record_start(this: Run, early_stop: EarlyStop, wandb_mode: str) -> WandbRun | None:
    """Starts the W&B run, if there shall be one, and makes the directory that of a run which trains.

    Nothing is changed before W&B has taken the run: one that it refuses stays what it was.
    """
    wandb_run = None
    if wandb_mode != "none":
        wandb_run = WandbRun.start(
            this.config,
            this.identity,
            this.directory.path,
            mode=wandb_mode,
            resume=this.config.resume is not None,
            on_stop=early_stop.ask,
        )
    with told_of_failures(wandb_run):
        if wandb_run is not None:
            open_record(wandb_run, this.directory)
        _begin(this)
        if wandb_run is not None:
            report_data(this, wandb_run)
    return wandb_run


def _begin(this: Run) -> None:
    """Takes away what says that the run has ended and what it came to, and writes its configuration.

    In this order: a run that is killed here, at whatever line, has either ended as its files say or goes on.
    """
    directory = this.directory
    if this.checkpoint is None or this.config.resume != "auto":  # `auto` goes on with a stop that was not recorded
        directory.early_stop.unlink(missing_ok=True)
    directory.summary_json.unlink(missing_ok=True)
    for split in SPLITS:
        if directory.evaluation(split).is_dir():
            shutil.rmtree(directory.evaluation(split))
    config = yaml.safe_dump(asdict(this.config), sort_keys=False, allow_unicode=True)
    write_atomically(directory.config_yaml, config)
    directory.checkpoints.mkdir(exist_ok=True)
    if this.checkpoint is None:
        for leftover in directory.checkpoints.glob("*.ckpt"):  # of a start that was killed before `last.ckpt`
            leftover.unlink()
    repair(directory.metrics_csv, -1 if this.checkpoint is None else this.checkpoint.global_step)


def record_end(this: Run, parts: Parts, wandb_run: WandbRun | None, status: str, exit_code: int) -> RunSummary:
    """Draws `curves.png`, logs the model, writes `summary.json` and ends the W&B run; also of one that didn't finish.

    `summary.json` comes last: "finished" stands nowhere before all else is there.
    """
    with told_of_failures(wandb_run):
        parts.logger.close(over=status in ("finished", "stopped"))
        rows = read_metrics(this.directory.metrics_csv)
        summary = _summary(this, parts, rows, status)
        if rows:
            tested = parts.predictions.test is not None
            plot_curves(
                this.directory.metrics_csv, this.directory.curves_png, best_step=summary.best_step, tested=tested
            )
        if wandb_run is not None:
            report_model(this, summary, wandb_run)
        write_summary(this.directory.summary_json, summary)
    if wandb_run is not None:
        end_wandb_run(wandb_run, this.directory, summary, exit_code)
    return summary


def _summary(this: Run, parts: Parts, rows: Sequence[Row], status: str) -> RunSummary:
    # Without checkpoints nobody has the weights that were best; the test is of the last ones.
    keeps_best = this.config.trainer.enable_checkpointing is not False
    best = _best_row(rows, this.config.early_stopping.monitor) if keeps_best else None
    metrics: dict[str, float] = {}
    for row in rows:
        metrics |= {name: value for name, value in row.items() if name not in ("step", "epoch")}
    if best is not None:
        metrics |= {name: value for name, value in best.items() if name.startswith("val/")}
    if parts.predictions.test is None:  # rows of an earlier test are of the weights that were best then
        metrics = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    seconds = parts.throughput.seconds
    if seconds > 0:
        metrics["train/tokens_per_second"] = parts.throughput.tokens / seconds
    return RunSummary(
        status=status,
        metrics=metrics,
        coverage=parts.coverage,
        parameters=parameter_counts(parts.module.model)["trainable"],
        tokens=parts.throughput.tokens,
        seconds=seconds,
        waited_seconds=parts.data.waited_seconds,
        world_size=parts.trainer.world_size,
        batch_size_per_device=device_share(this.config.data.batch_size, parts.trainer.world_size),
        waiting_share=parts.data.waiting_share,
        step=parts.trainer.global_step,
        best_step=None if best is None else int(best["step"]),
        best_epoch=None if best is None else int(best["epoch"]),
    )


def _best_row(rows: Sequence[Row], monitor: str) -> Row | None:
    """The first row with the best value of `monitor`: the one whose weights are in `best.ckpt`."""
    measured = [row for row in rows if monitor in row]
    if not measured:
        return None
    sign = 1 if monitor == "val/accuracy" else -1
    return max(measured, key=lambda row: -math.inf if math.isnan(row[monitor]) else sign * row[monitor])
