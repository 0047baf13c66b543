"""The exponential average of the weights over the steps, which validation, test and predictions use."""

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.plugins import DoublePrecision
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor


class AveragedWeights(WeightAveraging):
    """Average the weights after each optimizer step: a = decay * a + (1 - decay) * weights, from the first step's on.

    A checkpoint has the average as `state_dict`, which is validated, tested and loaded for predictions, and the weights
    to train on as `current_model_state`.

    Lightning's callback is corrected where it would lose weights. It exchanges both sets of weights for a validation,
    so that a checkpoint within one has them exchanged, and the narrower of two types rounds the other. It puts
    `current_model_state` into a model that is to be tested. It makes the average before the model is moved to its
    device and converted to its precision.

    This callback must come before those that write checkpoints after a step.

    Args:
        decay: Above 0, below 1.
    """

    def __init__(self, decay: float) -> None:
        def update(averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
            wide = [weights.to(average.dtype) for average, weights in zip(averaged, current, strict=True)]
            torch._foreach_lerp_(averaged, wide, 1 - decay)

        super().__init__(multi_avg_fn=torch.no_grad()(update))
        self._trained: dict[str, Tensor] | None = None
        """The weights to train on, during a validation."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average, in float32 for half precision too, which would round small steps away."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and isinstance(trainer.precision_plugin, DoublePrecision):
            self._average_model.double()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the model."""
        del trainer
        assert self._average_model is not None
        self._trained = {name: weights.clone() for name, weights in pl_module.state_dict().items()}
        pl_module.load_state_dict(self._average_model.module.state_dict())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights to train on back."""
        del trainer
        assert self._trained is not None
        pl_module.load_state_dict(self._trained)
        self._trained = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store both sets of weights."""
        if self._trained is not None:
            checkpoint["state_dict"] = self._trained
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both sets of weights to train on; a test has the average, which Lightning has loaded."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
