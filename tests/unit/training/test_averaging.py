"""Averaged weights: what is averaged, validated, stored, tested and trained on."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import Loader, make_batch, make_module, make_trainer
from torch import Tensor

from textrnn.config.schema import OptimizerConfig
from textrnn.training.averaging import AveragedWeights
from textrnn.training.exact_resume import ResumedLoops

DECAY = 0.8
BATCHES = [make_batch(6, seed=seed) for seed in range(4)]
Weights = dict[str, Tensor]


def weights_of(module: pl.LightningModule) -> Weights:
    return {name: weights.clone() for name, weights in module.state_dict().items()}


class Observer(pl.Callback):
    """Notes the weights after each step and in each validation, and writes a checkpoint within the second one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.stepped, self.validated = path, list[Weights](), list[Weights]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.stepped.append(weights_of(pl_module))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if _[-1] == 0:
            self.validated.append(weights_of(pl_module))
            if self.path is not None and len(self.validated) == 2:
                trainer.save_checkpoint(self.path)


def trained(
    *, average: bool, path: Path | None = None, precision: Any = "32-true", epochs: int = 2, **fit: Any
) -> tuple[Any, Observer]:
    """Epochs of four steps, each with a validation: the trainer and what was observed."""
    optimizer = OptimizerConfig(lr=0.05, schedule="constant")
    observer, module = Observer(path), make_module(optimizer=optimizer, adversarial=0.0)
    callbacks: list[pl.Callback] = [AveragedWeights(DECAY)] if average else []
    trainer = make_trainer(*callbacks, ResumedLoops(), observer, max_epochs=epochs, precision=precision)
    trainer.fit(module, Loader(BATCHES), Loader(BATCHES[:1]), **fit)
    return trainer, observer


def averages(stepped: list[Weights]) -> list[Weights]:
    """The definition, step by step."""
    made = [stepped[0]]
    for weights in stepped[1:]:
        made.append({name: DECAY * made[-1][name] + (1 - DECAY) * weights[name] for name in weights})
    return made


def assert_equal(one: Weights, other: Weights, tolerance: float = 0.0) -> None:
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-6), ("64-true", 1e-14)])
def test_validations_have_the_average_and_training_is_as_without(precision: Any, tolerance: float) -> None:
    _, plain = trained(average=False, precision=precision)
    trainer, averaged = trained(average=True, precision=precision)
    for one, other in zip(plain.stepped, averaged.stepped, strict=True):
        assert_equal(one, other)
    expected = averages(plain.stepped)
    for one, other in zip(averaged.validated, (expected[3], expected[7]), strict=True):
        assert_equal(one, other, tolerance)
    assert_equal(weights_of(trainer.lightning_module), expected[7], tolerance)


def test_a_checkpoint_within_a_validation_has_both_sets_and_training_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    _, whole = trained(average=True, path=path)
    checkpoint = torch.load(path, weights_only=True)
    assert_equal(checkpoint["state_dict"], whole.validated[1])
    assert_equal(checkpoint["current_model_state"], whole.stepped[-1])
    _, rest = trained(average=True, epochs=3, ckpt_path=path, weights_only=True)
    _, undisturbed = trained(average=True, epochs=3)
    for one, other in zip(rest.stepped, undisturbed.stepped[8:], strict=True):
        assert_equal(one, other)
    assert_equal(rest.validated[-1], undisturbed.validated[-1])


def test_a_test_is_of_the_average(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    trainer, whole = trained(average=True, path=path)
    module = trainer.lightning_module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    trainer.test(module, Loader(BATCHES[:1]), ckpt_path=path, weights_only=True, verbose=False)
    assert_equal(weights_of(module), whole.validated[1])


def test_half_precision_has_an_average_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    _, whole = trained(average=True, path=path, precision="bf16-true")
    checkpoint = torch.load(path, weights_only=True)
    assert {weights.dtype for weights in checkpoint["state_dict"].values()} == {torch.float32}
    wide = [{name: weights.float() for name, weights in stepped.items()} for stepped in whole.stepped]
    assert_equal(checkpoint["state_dict"], averages(wide)[7], 1e-6)
    assert_equal(checkpoint["current_model_state"], whole.stepped[-1])
