from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import Batch, Loader, make_batch, make_module, make_trainer

from textrnn.evaluation.predictions import Predictions

REVIEWS = 17


def _batches(seed: int = 0) -> list[Batch]:
    """The reviews of a split in three batches, in another order, with a filler that stands on another's row."""
    batches = [make_batch(reviews, seed=seed + reviews, fillers=reviews == 6) for reviews in (7, 6, 5)]
    order = torch.randperm(REVIEWS, generator=torch.Generator().manual_seed(seed))
    batches[0]["indices"], batches[1]["indices"] = order[:7], torch.cat((order[7:12], order[:1]))
    batches[2]["indices"] = order[12:]
    return batches


class Expected(pl.Callback):
    """The logits of each validation and test, by the network alone."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.epochs: list[torch.Tensor] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logits = torch.zeros(REVIEWS)
        for batch in self.batches:
            real = batch["weights"] > 0
            logits[batch["indices"][real]] = pl_module(batch["token_ids"], batch["lengths"])[real]
        self.epochs.append(logits)

    on_test_start = on_validation_start


def _fit(largest: bool, *callbacks: pl.Callback, epochs: int = 3, **arguments: Any) -> tuple[Predictions, Expected]:
    predictions = Predictions({"validation": REVIEWS, "test": REVIEWS}, monitor="val/loss", largest=largest)
    batches, module = _batches(), make_module()
    expected = Expected(batches)
    trainer = make_trainer(expected, predictions, *callbacks, max_epochs=epochs, num_sanity_val_steps=-1)
    trainer.fit(module, Loader([make_batch(20, seed=3)] * 4), Loader(batches), **arguments)
    trainer.test(module, Loader(batches), verbose=False)
    return predictions, expected


@pytest.mark.parametrize(("largest", "epoch"), [(True, 0), (False, 2)])
def test_the_best_validation_and_the_test_are_kept(largest: bool, epoch: int) -> None:
    predictions, expected = _fit(largest)
    sanity, *validations, test = expected.epochs
    del sanity
    assert len(validations) == 3
    assert predictions.validation is not None
    assert predictions.test is not None
    for (logits, seen), wanted in ((predictions.validation, validations[epoch]), (predictions.test, test)):
        torch.testing.assert_close(logits, wanted)
        assert seen.all()


def test_a_resumed_run_has_the_best_validation_of_before(tmp_path: Path) -> None:
    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    whole, _ = _fit(True, Save())
    resumed, expected = _fit(True, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert len(expected.epochs) < 5, "it did not begin again"
    assert whole.validation is not None
    assert resumed.validation is not None
    assert torch.equal(resumed.validation[0], whole.validation[0])


def test_what_is_not_predicted_is_known() -> None:
    predictions = Predictions({"validation": REVIEWS, "test": REVIEWS}, monitor="val/loss", largest=False)
    batches = _batches()
    make_trainer(predictions, limit_test_batches=1).test(make_module(), Loader(batches), verbose=False)
    assert predictions.validation is None
    assert predictions.test is not None
    assert predictions.test[1].nonzero().flatten().tolist() == sorted(batches[0]["indices"].tolist())
