"""Records at a run's start and end, in its directory and in W&B."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from textrnn.base.console import LOGGER
from textrnn.config.schema import SPLITS, Config
from textrnn.data.batches import device_share
from textrnn.data.module import ReviewsDataModule
from textrnn.data.store import Store
from textrnn.evaluation.calibration import calibration_line
from textrnn.evaluation.metrics import SplitPredictions
from textrnn.evaluation.predictions import Predictions
from textrnn.evaluation.report import mistake_table, read_evaluation, write_evaluation
from textrnn.evaluation.wandb_charts import evaluation_charts
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.network import parameter_counts
from textrnn.tracking.histograms import Histograms
from textrnn.tracking.identity import model_kind, write_identity
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.metrics_csv import PREFIXES, Row, best_is, read_metrics, repair
from textrnn.tracking.plots import plot_curves
from textrnn.tracking.summary import RunSummary, Status, write_summary
from textrnn.tracking.throughput import Throughput
from textrnn.tracking.trackers import OpenTracker
from textrnn.tracking.uncommitted import may_be_uploaded
from textrnn.tracking.wandb_artifacts import ALIASES, ModelFiles, dataset_artifact, model_artifact
from textrnn.tracking.wandb_end import end_wandb_run, open_record, told_of_failures
from textrnn.tracking.wandb_run import WandbRun
from textrnn.training.claim import Run, write_config
from textrnn.training.preemption import EarlyStop


def predictions_callback(config: Config, store: Store) -> Predictions:
    """Return the callback that measures validations and the test, for `record_evaluation` too."""
    monitor = config.early_stopping.monitor
    splits = {name: store.split(name) for name in ("validation", "test")}
    return Predictions(splits, monitor=monitor, mode=best_is(monitor), classes=store.classes)


def watching(config: Config, logger: RunLogger) -> list[Callback]:
    """Return the callback for `tracking.watch`, if it is set."""
    what = config.tracking.watch
    if what is None:
        return []
    return [Histograms(logger, what=what, every_n_steps=config.trainer.log_every_n_steps)]


def record_evaluation(run: Run, evaluated: Predictions, logger: RunLogger, *, step: int) -> None:
    """Write `evaluation-<split>` and log its charts in the row of `step`, the run's last; on rank 0, at the end.

    The split is test; without a test, it is the validation that chose the checkpoint; without both nothing is written.
    """
    name, predictions = ("validation", evaluated.validation) if evaluated.test is None else ("test", evaluated.test)
    if predictions is None:
        LOGGER.info("neither test nor validation: no evaluation is written")
        return
    if evaluated.test is not None and evaluated.validation is not None and run.best_ckpt is not None:
        evaluated.test.temperature = evaluated.validation.temperature  # of the same weights
    text = run.store.split(name).text
    folder = run.directory.evaluation(name)
    mistakes = run.config.tracking.mistakes
    write_evaluation(
        folder,
        predictions,
        split=name,
        name=run.identity.name,
        max_length=run.config.data.max_length,
        mistakes=mistakes,
        text=text,
    )
    LOGGER.info(f"{name}: {calibration_line(predictions)}")
    if logger.has_wandb_run:
        logger.add_media(step, _charts(run, name, predictions))


def recorded_charts(run: Run, summary: RunSummary) -> dict[str, Any]:
    """Return the charts of `evaluation-<split>` once more, for W&B; none where it holds another evaluation by now."""
    for name in ("test", "validation"):
        predictions = read_evaluation(run.directory.evaluation(name), split=name, metrics=summary.metrics)
        if predictions is not None:
            return _charts(run, name, predictions)
    return {}


def _charts(run: Run, split: str, predictions: SplitPredictions) -> dict[str, Any]:
    mistakes = mistake_table(predictions, run.config.tracking.mistakes, run.store.split(split).text)
    picture = run.directory.evaluation(split) / "evaluation.png"
    return evaluation_charts(predictions, prefix=PREFIXES[split], picture=picture, mistakes=mistakes)


def report_data(run: Run, wandb_run: WandbRun) -> None:
    """Log the data as the run's input artifact, at its start; W&B doesn't support this offline."""
    if wandb_run.url is not None and run.config.tracking.artifact:
        key = run.store.meta["key"]
        made_of = {name: key[name] for name in ("tokenizer", "spacy", "vocab_size", "segment_size") if name in key}
        wandb_run.use_artifact(dataset_artifact(run.store.fingerprint, {**_data(run.store), **made_of}))


def _data(store: Store) -> dict[str, Any]:
    return {"fingerprint": store.fingerprint, "classes": list(store.classes), "splits": store.meta["splits"]}


def report_model(run: Run, summary: RunSummary, wandb_run: WandbRun) -> None:
    """Log the best checkpoint of a finished run as `<cell>-<run id>`, for `tracking.registry` too."""
    config, best = run.config, run.best_ckpt
    if summary.status != Status.FINISHED or not config.tracking.artifact:
        return
    if best is None:
        LOGGER.info("without a validation there is no best checkpoint: no model artifact is logged")
        return
    store, identity = run.store, run.identity
    folder = wandb_run.directory / "model"
    files = ModelFiles(checkpoint=best, config_yaml=run.directory.config_yaml, tokenizer_json=store.tokenizer_json)
    try:
        files.put_into(folder)
    except OSError as error:
        LOGGER.warning(f"no model artifact: {folder} can't be written ({error.strerror or error})")
        return
    metadata = {
        **{name: value for name, value in summary.metrics.items() if math.isfinite(value)},
        "best_step": summary.best_step,
        "best_epoch": summary.best_epoch,
        "parameters": summary.parameters,
        "seed": config.seed,
        "git_commit": identity.git_commit,
        "version": identity.version,
        "data": _data(store),
    }
    model = model_artifact(f"{model_kind(config)}-{identity.id}", folder, metadata)
    wandb_run.log_artifact(model, ALIASES, registry=config.tracking.registry)


@dataclass(kw_only=True, slots=True)
class Components:
    """Model, data and trainer of a run."""

    module: ReviewClassifier
    data: ReviewsDataModule
    trainer: pl.Trainer
    logger: RunLogger
    throughput: Throughput
    predictions: Predictions | None
    """What measures a classifier; None for a language model, which measures itself."""
    coverage: dict[str, float]
    """Coverage by pretrained vectors; see `RunSummary.coverage`."""
    tracker: OpenTracker | None = None
    """A tracker other than W&B; on rank 0, once the run has started."""

    @property
    def temperature(self) -> float | None:
        """The temperature of the best validation's weights, if there is one."""
        validation = None if self.predictions is None else self.predictions.validation
        return None if validation is None else validation.temperature

    @property
    def tested(self) -> bool:
        """Whether this process has tested the model."""
        return self.predictions is not None and self.predictions.test is not None


def record_start(run: Run, early_stop: EarlyStop, wandb_mode: str) -> WandbRun | None:
    """Start the W&B run, if any, and mark the directory as that of a training run.

    Nothing is changed before W&B has accepted the run, so a refused run is unchanged.
    """
    wandb_run = None
    if wandb_mode in ("online", "offline"):
        wandb_run = WandbRun.start(
            run.config,
            run.identity,
            run.directory.path,
            mode=wandb_mode,
            resume=run.config.resume is not None,
            on_stop=early_stop.ask,
        )
    with told_of_failures(wandb_run):
        if wandb_run is not None:
            open_record(wandb_run, run.directory)
            wandb_run.follow(run.directory.train_log)
            if run.directory.diff_patch.is_file() and may_be_uploaded():
                wandb_run.send_files(run.directory.path, [run.directory.diff_patch.name])
        _begin(run)
        if wandb_run is not None:
            report_data(run, wandb_run)
    return wandb_run


def _begin(run: Run) -> None:
    """Remove the records of the run's end and its final metrics; write its identity and configuration.

    The order matters: if the run is killed at any line here, its files show an ended run or one that can be resumed.
    """
    directory = run.directory
    if run.checkpoint is None or run.config.resume != "auto":  # `auto` continues a stop that was not recorded
        directory.early_stop.unlink(missing_ok=True)
    directory.summary_json.unlink(missing_ok=True)
    for split in SPLITS:
        if directory.evaluation(split).is_dir():
            shutil.rmtree(directory.evaluation(split))
    write_identity(directory.run_json, run.identity)  # with the classes, which are known now
    write_config(directory, run.config)
    directory.checkpoints.mkdir(exist_ok=True)
    if run.checkpoint is None:
        for leftover in directory.checkpoints.glob("*.ckpt"):  # from a start that was killed before `last.ckpt`
            leftover.unlink()
    repair(directory.metrics_csv, -1 if run.checkpoint is None else run.checkpoint.global_step)


def record_end(run: Run, components: Components, wandb_run: WandbRun | None, status: Status) -> RunSummary:
    """Draw `curves.png`, log the model, write `summary.json` and end the W&B run, also for an unfinished run.

    `summary.json` is the last file, so that no run is recorded as finished before its other files are complete.
    """
    with told_of_failures(wandb_run):
        components.logger.close(over=status in (Status.FINISHED, Status.STOPPED))
        rows = read_metrics(run.directory.metrics_csv)
        summary = _summary(run, components, rows, status)
        if rows:
            tested = components.tested
            plot_curves(
                run.directory.metrics_csv,
                run.directory.curves_png,
                name=run.identity.name,
                monitor=run.config.early_stopping.monitor,
                best_step=summary.best_step,
                tested=tested,
            )
        if wandb_run is not None:
            report_model(run, summary, wandb_run)
        write_summary(run.directory.summary_json, summary)
        if components.tracker is not None:
            components.tracker.finish()
    if wandb_run is not None:
        end_wandb_run(wandb_run, run.directory, summary, status.exit_code)
    return summary


def _summary(run: Run, components: Components, rows: Sequence[Row], status: Status) -> RunSummary:
    # Without checkpoints the best weights are lost; the test is of the last ones.
    keeps_best = run.config.trainer.enable_checkpointing is not False
    best = _best_row(rows, run.config.early_stopping.monitor) if keeps_best else None
    metrics: dict[str, float] = {}
    for row in rows:
        metrics |= {name: value for name, value in row.items() if name not in ("step", "epoch")}
    if best is not None:
        metrics |= {name: value for name, value in best.items() if name.startswith("val/")}
    if not components.tested:  # rows of an earlier test are of the weights that were best then
        metrics = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    seconds = components.throughput.seconds
    if seconds > 0:
        metrics["train/tokens_per_second"] = components.throughput.tokens / seconds
    return RunSummary(
        status=status,
        metrics=metrics,
        coverage=components.coverage,
        parameters=parameter_counts(components.module.model)["trainable"],
        tokens=components.throughput.tokens,
        seconds=seconds,
        waited_seconds=components.data.waited_seconds,
        world_size=components.trainer.world_size,
        batch_size_per_device=device_share(run.config.data.batch_size, components.trainer.world_size),
        straggler_fraction=components.data.straggler_fraction,
        step=components.trainer.global_step,
        best_step=None if best is None else int(best["step"]),
        best_epoch=None if best is None else int(best["epoch"]),
        temperature=None if best is None else components.temperature,
    )


def _best_row(rows: Sequence[Row], monitor: str) -> Row | None:
    """Return the first row with the best value of `monitor`, whose weights are in `best.ckpt`."""
    measured = [row for row in rows if monitor in row]
    if not measured:
        return None
    sign = 1 if best_is(monitor) == "max" else -1
    return max(measured, key=lambda row: -math.inf if math.isnan(row[monitor]) else sign * row[monitor])
