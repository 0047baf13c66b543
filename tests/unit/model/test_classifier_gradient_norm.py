"""`train/grad_norm`: the gradients as the optimiser's step finds them, before clipping."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import Loader, fit, make_batch, make_module, make_trainer

from textrnn.model.classifier import ReviewClassifier


class Norms(pl.Callback):
    """By step (from 1): the norm by its definition before clipping, and what the module logs."""

    def __init__(self) -> None:
        self.defined: dict[int, float] = {}
        self.logged: dict[int, float] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        squares = sum(float(gradient.double().square().sum()) for gradient in gradients)
        self.defined[trainer.global_step + 1] = squares**0.5

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ReviewClassifier)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        if trainer.global_step % every == 0 and pl_module.train_metrics:
            self.logged[trainer.global_step] = pl_module.train_metrics["train/grad_norm"]


class LightningsClipping(ReviewClassifier):
    configure_gradient_clipping = pl.LightningModule.configure_gradient_clipping


CLIPPINGS: list[dict[str, Any]] = [
    {"gradient_clip_val": None},
    {"gradient_clip_val": 0},
    {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "norm"},
    {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"},
    {"gradient_clip_val": 0.01, "precision": "bf16-mixed"},  # where Lightning refuses to clip for a fused optimiser
]


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=str)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_norm_is_that_before_clipping_and_clipping_is_lightnings(clipping: dict[str, Any], accumulate: int) -> None:
    batches = [make_batch(6, seed=seed) for seed in range(8)]
    norms, weights = Norms(), []
    for kind in (ReviewClassifier, LightningsClipping):
        module = make_module()
        module.__class__ = kind
        callbacks = [norms] if kind is ReviewClassifier else []
        arguments = {**clipping, "accumulate_grad_batches": accumulate, "limit_val_batches": 0}
        fit(make_trainer(*callbacks, **arguments), module, Loader(batches))
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert list(norms.logged) == list(range(1, 8 // accumulate + 1))
    assert norms.logged == pytest.approx(norms.defined, rel=1e-5)
    assert min(norms.defined.values()) > 0.01, "so that clipping has something to do"
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*weights, strict=True))


def test_only_steps_that_are_logged_are_measured() -> None:
    norms = Norms()
    trainer = make_trainer(norms, log_every_n_steps=3, limit_val_batches=0)
    fit(trainer, make_module(), Loader([make_batch(6, seed=seed) for seed in range(7)]))
    assert norms.logged == pytest.approx({step: norms.defined[step] for step in (3, 6)}, rel=1e-5)
    assert len(set(norms.defined.values())) == 7
