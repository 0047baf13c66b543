"""The callback that measures validation and test: every review of every rank once, held against scikit-learn."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import (
    Batch,
    Loader,
    fit,
    make_batch,
    make_module,
    make_predictions,
    make_trainer,
    validate_on_ranks,
)
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from textrnn.evaluation.calibration import fit_temperature
from textrnn.evaluation.predictions import Predictions
from textrnn.model.classifier import ReviewClassifier

REVIEWS = 17


def _batches(seed: int = 0, classes: int = 2) -> list[Batch]:
    """The reviews of a split in three batches, in another order, with a filler that stands on another's row."""
    batches = [make_batch(size, seed=seed + size, fillers=size == 6, classes=classes) for size in (7, 6, 5)]
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


def _evaluate(
    batches: list[Batch], module: ReviewClassifier | None = None, **arguments: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of a validation and of a test."""
    trainer, module = make_trainer(make_predictions(batches), **arguments), module or make_module()
    (validation,) = trainer.validate(module, Loader(batches), verbose=False)
    (test,) = trainer.test(module, Loader(batches), verbose=False)
    return dict(validation), dict(test)


def _real(batches: list[Batch], column: Any) -> torch.Tensor:
    """What `column` makes of each batch, without the fillers."""
    return torch.cat([column(batch)[batch["weights"] > 0] for batch in batches])


# --- what is logged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("64-true", 1e-12)])
def test_evaluation_is_exact_over_uneven_batches_with_fillers(precision: Any, tolerance: float) -> None:
    batches, module = _batches(), make_module(implementation="cell")  # which needs no C compiler for float64
    validation, test = _evaluate(batches, module, precision=precision)
    module.eval()
    with torch.no_grad():
        logits = _real(batches, lambda batch: module(batch["token_ids"], batch["lengths"]))
    labels = _real(batches, lambda batch: batch["labels"]).numpy()
    probabilities = torch.sigmoid(logits.double()).numpy()
    assert 0 < labels.mean() < 1
    for metrics, prefix in ((validation, "val"), (test, "test")):
        assert metrics.pop(f"{prefix}/loss") == pytest.approx(log_loss(labels, probabilities), rel=tolerance)
        expected = {
            "accuracy": ((probabilities > 0.5) == labels).mean(),
            "f1": f1_score(labels, probabilities > 0.5),
            "auroc": roc_auc_score(labels, probabilities),
        }
        assert metrics == pytest.approx({f"{prefix}/{name}": value for name, value in expected.items()}, rel=1e-5)


def test_auroc_of_one_label_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    batch = make_batch(5, seed=0)
    batch["labels"] = torch.ones(5, dtype=torch.int64)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        validation, test = _evaluate([batch])
    assert set(validation) == {"val/loss", "val/accuracy", "val/f1"}
    assert set(test) == {"test/loss", "test/accuracy", "test/f1"}
    assert [record.message for record in caplog.records if "auroc" in record.message] == [
        f"{prefix}/auroc is left out: all reviews have the same label" for prefix in ("val", "test")
    ]


def test_all_metrics_of_a_diverged_model_are_nan() -> None:
    module = make_module()
    with torch.no_grad():
        module.model.output.bias.fill_(math.nan)
    validation, _ = _evaluate([make_batch(9, seed=0)], module)
    assert set(validation) == {"val/loss", "val/accuracy", "val/f1", "val/auroc"}
    assert all(math.isnan(value) for value in validation.values())


def test_each_validation_starts_afresh_and_all_metrics_are_there() -> None:
    losses: list[float] = []

    class Losses(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            losses.append(float(trainer.callback_metrics["val/loss"]))

    batches, module = [make_batch(8, seed=3)], make_module()
    trainer = make_trainer(Losses(), make_predictions(batches), max_epochs=3, num_sanity_val_steps=1)
    fit(trainer, module, Loader([make_batch(20, seed=3)] * 4), Loader(batches))
    assert {"train/loss", "train/accuracy", "lr", "val/loss", "val/accuracy", "val/f1", "val/auroc"} == set(
        trainer.callback_metrics
    )
    assert len(losses) == 4
    assert losses[-1] < losses[0], "the maximum of several validations would show"
    in_training = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    again, _ = _evaluate(batches, module)
    assert again == pytest.approx(in_training)


@pytest.mark.parametrize("classes", [2, 4])
def test_every_rank_has_the_predictions_of_all(classes: int) -> None:
    batches, module = _batches(classes=classes), make_module(classes=classes).eval()
    with torch.no_grad():
        predicted = [(module(batch["token_ids"], batch["lengths"]), batch) for batch in batches]
    alone, metrics = validate_on_ranks(batches, [predicted])
    assert metrics.keys() == {"val/loss", "val/accuracy", "val/f1", "val/auroc"}
    assert alone.indices.tolist() == _real(batches, lambda batch: batch["indices"]).tolist(), "as they were read"
    only_fillers = (predicted[0][0], {**batches[0], "weights": torch.zeros(7)})
    for ranks in (2, 3, 4):
        shares = [predicted[rank::ranks] or [only_fillers] for rank in range(ranks)]
        shared, logged = validate_on_ranks(batches, shares)
        assert torch.equal(shared.indices, torch.arange(REVIEWS))
        for name in ("logits", "labels", "lengths"):
            assert torch.equal(getattr(shared, name), getattr(alone, name)[alone.indices.argsort()])
        assert logged == pytest.approx(metrics, abs=1e-6)


# --- what is kept --------------------------------------------------------------------------------------------------


def _fit(mode: str, *callbacks: pl.Callback, epochs: int = 3, **arguments: Any) -> tuple[Predictions, Expected]:
    batches, module = _batches(), make_module()
    predictions = make_predictions(batches, mode=mode)
    expected = Expected(batches)
    trainer = make_trainer(expected, predictions, *callbacks, max_epochs=epochs, num_sanity_val_steps=-1)
    trainer.fit(module, Loader([make_batch(20, seed=3)] * 4), Loader(batches), **arguments)
    trainer.test(module, Loader(batches), verbose=False)
    return predictions, expected


@pytest.mark.parametrize(("mode", "epoch"), [("max", 0), ("min", 2)])
def test_the_best_validation_and_the_test_are_kept(mode: str, epoch: int) -> None:
    predictions, expected = _fit(mode)
    sanity, *validations, test = expected.epochs
    del sanity
    assert len(validations) == 3
    assert predictions.validation is not None
    assert predictions.test is not None
    for kept, wanted in ((predictions.validation, validations[epoch]), (predictions.test, test)):
        assert sorted(kept.indices.tolist()) == list(range(REVIEWS))
        torch.testing.assert_close(kept.logits, wanted[kept.indices])


@pytest.mark.parametrize(("mode", "best"), [("max", 4), ("min", 12)])
def test_the_temperature_is_that_of_the_best_weights_and_of_no_others(mode: str, best: int) -> None:
    predictions, _ = _fit(mode)
    assert predictions.validation is not None
    validation = predictions.validation
    assert predictions.temperature_at(best) == fit_temperature(validation.logits, validation.labels) is not None
    assert [predictions.temperature_at(step) for step in (0, 4, 8, 12) if step != best] == [None] * 3
    later = make_predictions(_batches(), mode=mode)
    assert later.temperature_at(best) is None
    state = predictions.state_dict()
    later.load_state_dict(state)
    assert later.temperature_at(best) == predictions.temperature_at(best)
    del state["best_step"]  # of an earlier version
    later.load_state_dict(state)
    assert later.temperature_at(best) is None


def test_a_resumed_run_has_the_best_validation_of_before(tmp_path: Path) -> None:
    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    whole, _ = _fit("max", Save())
    resumed, expected = _fit("max", ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert len(expected.epochs) < 5, "it did not begin again"
    assert whole.validation is not None
    assert resumed.validation is not None
    for name in ("logits", "labels", "lengths", "indices"):
        assert torch.equal(getattr(resumed.validation, name), getattr(whole.validation, name))


def test_what_is_not_predicted_is_known() -> None:
    batches = _batches()
    predictions = make_predictions(batches)
    make_trainer(predictions, limit_test_batches=1).test(make_module(), Loader(batches), verbose=False)
    assert predictions.validation is None
    assert predictions.test is not None
    assert predictions.test.indices.tolist() == batches[0]["indices"].tolist()
