from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import Loader, fit, make_batch, make_module, make_trainer
from doubles.tiny_training import identity

from textrnn.tracking.histograms import Histograms
from textrnn.tracking.logger import RunLogger


class Taken(RunLogger):
    """A logger that keeps what W&B's row would have."""

    has_wandb_run = True

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, identity())
        self.media: dict[int, dict[str, Any]] = {}

    def add_media(self, step: int, media: Any) -> None:
        self.media.setdefault(step, {}).update(media)


class Gradients(pl.Callback):
    """Gradients and parameters of each step (from 1), by name."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, np.ndarray[Any, Any]]] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.steps[trainer.global_step + 1] = values = {}
        for name, parameter in pl_module.named_parameters():
            assert parameter.grad is not None
            values[f"gradients/{name.removeprefix('model.')}"] = parameter.grad.numpy().copy()
            values[f"parameters/{name.removeprefix('model.')}"] = parameter.detach().numpy().copy()


@pytest.mark.parametrize(("what", "accumulate"), [("gradients", 1), ("all", 2)])
def test_histograms_are_those_of_the_steps_that_are_logged(what: str, accumulate: int, tmp_path: Path) -> None:
    logger, gradients = Taken(tmp_path), Gradients()
    histograms = Histograms(logger, what=what, every_n_steps=2)
    trainer = make_trainer(gradients, histograms, accumulate_grad_batches=accumulate, gradient_clip_val=1e-3)
    batches = [make_batch(6, seed=seed) for seed in range(10)]
    fit(trainer, make_module(implementation="auto"), Loader(batches), Loader(batches[:3]))
    assert list(logger.media) == list(range(2, 10 // accumulate + 1, 2))
    for step, made in logger.media.items():
        wanted = {name: value for name, value in gradients.steps[step].items() if what == "all" or name[0] == "g"}
        assert set(made) == set(wanted)
        for name, values in wanted.items():
            histogram = made[name]
            assert sum(histogram.histogram) == values.size, name
            low, high = values.min(), values.max()
            assert histogram.bins[0] <= low <= high <= histogram.bins[-1]
            if low < high:
                counts, _ = np.histogram(values.astype(np.float64), bins=histogram.bins)
                # A value on the edge of two bins may be counted in either.
                assert np.abs(np.cumsum(counts) - np.cumsum(histogram.histogram)).max() <= 2, name


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    class Spoil(pl.Callback):
        def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            assert isinstance(pl_module, pl.LightningModule)
            for name, parameter in pl_module.named_parameters():
                assert parameter.grad is not None
                parameter.grad.view(-1)[0] = torch.nan
                if name == "model.output.bias":
                    parameter.grad.fill_(torch.inf)

    logger = Taken(tmp_path)
    trainer = make_trainer(Spoil(), Histograms(logger, what="gradients", every_n_steps=1), limit_val_batches=0)
    module = make_module()
    fit(trainer, module, Loader([make_batch(6, seed=0)]))
    assert "gradients/output.bias" not in logger.media[1]
    assert sum(logger.media[1]["gradients/output.weight"].histogram) == module.model.output.weight.numel() - 1
