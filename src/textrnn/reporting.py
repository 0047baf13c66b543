"""What a finished run leaves besides its curves: its predictions, measured, and its best model as a W&B artifact."""

import math
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from textrnn.config import Config
from textrnn.data.store import Store
from textrnn.logs import LOGGER
from textrnn.runs import Run
from textrnn.tracking.artifacts import ALIASES, ModelFiles, dataset_artifact, model_artifact
from textrnn.tracking.charts import evaluation_charts
from textrnn.tracking.evaluation_record import mistake_rows, write_evaluation
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.measured import Measured
from textrnn.tracking.predictions import Predictions
from textrnn.tracking.summary import RunSummary
from textrnn.tracking.wandb_session import WandbRun
from textrnn.tracking.watching import Histograms


def kept_predictions(config: Config, store: Store) -> Predictions:
    """The callback that keeps what `report_predictions` reports."""
    monitor = config.early_stopping.monitor
    reviews = {name: len(store.split(name)) for name in ("validation", "test")}
    return Predictions(reviews, monitor=monitor, largest=monitor == "val/accuracy")


def watching(config: Config, logger: RunLogger) -> list[Callback]:
    """The callback that `tracking.watch` asks for, if it asks for one."""
    what = config.tracking.watch
    if what is None:
        return []
    return [Histograms(logger, what=what, every_n_steps=config.trainer.log_every_n_steps)]


def report_predictions(this: Run, predictions: Predictions, logger: RunLogger, *, step: int) -> None:
    """Write `evaluation-<split>` and log its charts in the row of `step`, the run's last; on rank 0, once, at the end.

    The split is the test; without one, the validation that chose the checkpoint; without that there is nothing.
    """
    name, logits = (
        ("test", predictions.test) if predictions.test is not None else ("validation", predictions.validation)
    )
    if logits is None or not bool(logits[1].any()):
        LOGGER.info("neither test nor validation: no evaluation is written")
        return
    split = this.store.split(name)
    indices = logits[1].nonzero().flatten()
    measured = Measured(
        logits=logits[0][indices],
        labels=torch.from_numpy(split.labels.astype("int64"))[indices],
        lengths=torch.from_numpy(split.lengths.astype("int64"))[indices],
        indices=indices,
    )
    folder = this.directory.evaluation(name)
    mistakes = this.config.tracking.mistakes
    write_evaluation(
        folder,
        measured,
        split=name,
        name=this.identity.name,
        max_length=this.config.data.max_length,
        mistakes=mistakes,
        text=split.text,
    )
    if logger.has_wandb_run:
        prefix = "test" if name == "test" else "val"
        rows = mistake_rows(measured, mistakes, split.text)
        charts = evaluation_charts(measured, prefix=prefix, picture=folder / "evaluation.png", mistakes=rows)
        logger.add_media(step, charts)


def report_data(this: Run, wandb_run: WandbRun) -> None:
    """Log what the run is trained on as its input, at its start; offline W&B takes none."""
    if wandb_run.url is not None and this.config.tracking.artifact:
        key = this.store.meta["key"]
        made_of = {name: key[name] for name in ("tokenizer", "spacy", "vocab_size", "segment_size") if name in key}
        wandb_run.use_artifact(dataset_artifact(this.store.fingerprint, {**_data(this.store), **made_of}))


def _data(store: Store) -> dict[str, Any]:
    return {"fingerprint": store.fingerprint, "splits": store.meta["splits"]}


def report_model(this: Run, summary: RunSummary, wandb_run: WandbRun) -> None:
    """Log the best checkpoint of a finished run as `<cell>-<run id>`."""
    config, best = this.config, this.best_ckpt
    if summary.status != "finished" or not config.tracking.artifact:
        return
    if best is None:
        LOGGER.info("without a validation there is no best checkpoint: no model artifact is logged")
        return
    store, identity = this.store, this.identity
    folder = wandb_run.directory / "model"
    files = ModelFiles(checkpoint=best, config_yaml=this.directory.config_yaml, tokenizer_json=store.tokenizer_json)
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
    wandb_run.log_artifact(model_artifact(f"{config.model.cell}-{identity.id}", folder, metadata), ALIASES)
