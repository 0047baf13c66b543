"""What a finished run leaves to look at besides its curves: its predictions, measured, in its directory and in W&B."""

import torch

from textrnn.logs import LOGGER
from textrnn.runs import Run
from textrnn.tracking.charts import evaluation_charts
from textrnn.tracking.evaluation_record import mistake_rows, write_evaluation
from textrnn.tracking.measured import Measured
from textrnn.tracking.predictions import Predictions
from textrnn.tracking.wandb_session import WandbRun


def report_predictions(this: Run, predictions: Predictions, wandb_run: WandbRun | None, *, step: int) -> None:
    """Write `evaluation-<split>` and log its charts at `step`, the run's last; on rank 0, once, at the end.

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
    if wandb_run is not None:
        prefix = "test" if name == "test" else "val"
        rows = mistake_rows(measured, mistakes, split.text)
        charts = evaluation_charts(measured, prefix=prefix, picture=folder / "evaluation.png", mistakes=rows)
        wandb_run.log(charts, step=step)
