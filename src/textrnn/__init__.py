"""Recurrent text classifiers: PyTorch Lightning, Hydra and Weights & Biases."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textrnn.sharing.trained_model import TrainedModel

__all__ = ["load"]


def load(run: str | Path, *, threshold: float | None = None) -> "TrainedModel":
    """Load a trained model, to label texts with it.

    Args:
        run: A run directory (its best checkpoint), a checkpoint, a model in W&B as wandb:ENTITY/PROJECT/NAME:best or
            the address of a run's page, or a model on the Hugging Face Hub as hub:OWNER/NAME.
        threshold: Probability above which a text has the second of two classes, or each of several labels; None: 0.5.

    Raises:
        InputError: there is none, it can't be read, or it has more classes, to which no threshold applies.
    """
    from textrnn.sharing.trained_model import TrainedModel  # takes seconds
    from textrnn.tracking.wandb_artifacts import local_run
    from textrnn.training.checkpoints import load_checkpoint

    return TrainedModel(load_checkpoint(local_run(str(run))), threshold=threshold)
