"""`tracking.watch`: histograms of gradients and parameters in W&B, in the row of their step.

`wandb.watch` is not used: it counts passes, including those of validation, instead of steps, sees the scaled gradients
of half precision, and logs each histogram in the row of the step before.
"""

from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from textrnn.tracking.logger import RunLogger

if TYPE_CHECKING:
    import wandb

BINS = 64


class Histograms(pl.Callback):
    """Log gradients of every `every_n_steps`th step, before clipping, to the logger's W&B run, if it has one.

    Names are those of `wandb.watch`: `gradients/<parameter>` and, with `what="all"`, `parameters/<parameter>`, the
    values before the step.
    """

    def __init__(self, logger: RunLogger, *, what: str, every_n_steps: int) -> None:
        self._logger = logger
        self._what = what
        self._every_n_steps = every_n_steps

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the gradients, averaged over all ranks and unscaled."""
        step = trainer.global_step + 1
        if not self._logger.has_wandb_run or step % self._every_n_steps != 0:
            return
        tensors: dict[str, Tensor] = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                tensors[f"gradients/{name.removeprefix('model.')}"] = parameter.grad
                if self._what == "all":
                    tensors[f"parameters/{name.removeprefix('model.')}"] = parameter.detach()
        made = {name: _histogram(tensor) for name, tensor in tensors.items()}
        self._logger.add_media(step, {name: histogram for name, histogram in made.items() if histogram is not None})


def _histogram(tensor: Tensor) -> "wandb.Histogram | None":
    """Return the histogram of the finite values, counted on their device; None if none is finite."""
    import wandb

    values = tensor.detach().float()
    values = values[values.isfinite()]
    if not values.numel():
        return None
    low, high = values.min().item(), values.max().item()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(values, bins=BINS, min=low, max=high).cpu().numpy()
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64).numpy()
    return wandb.Histogram(np_histogram=(counts, edges))
