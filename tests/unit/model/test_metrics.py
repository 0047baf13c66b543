"""Metrics of a split, held against scikit-learn."""

import logging
import math

import pytest
import torch
from doubles.small_runs import Loader, fit, make_batch, make_module, make_trainer
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from textrnn.model.loss import review_losses
from textrnn.model.metrics import ReviewMetrics


def test_evaluation_is_exact_over_uneven_batches_with_fillers() -> None:
    batches = [make_batch(9, seed=0), make_batch(4, seed=1, fillers=2), make_batch(3, seed=2, fillers=3)]
    module = make_module()
    (results,) = make_trainer().test(module, Loader(batches), verbose=False)
    (validation,) = make_trainer().validate(module, Loader(batches), verbose=False)
    module.eval()
    kept = [batch["weights"] > 0 for batch in batches]
    labels = torch.cat([batch["labels"][rows] for batch, rows in zip(batches, kept, strict=True)]).numpy()
    with torch.no_grad():
        logits = [module(batch["token_ids"], batch["lengths"])[rows] for batch, rows in zip(batches, kept, strict=True)]
    probabilities = torch.sigmoid(torch.cat(logits)).double().numpy()
    expected = {
        "loss": log_loss(labels, probabilities),
        "accuracy": ((probabilities > 0.5) == labels).mean(),
        "f1": f1_score(labels, probabilities > 0.5),
        "auroc": roc_auc_score(labels, probabilities),
    }
    assert 0 < labels.mean() < 1
    assert results == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-5)
    assert validation == pytest.approx({f"val/{name}": value for name, value in expected.items()}, rel=1e-5)


def test_logits_between_0_and_1_are_not_taken_for_probabilities() -> None:
    metrics, logits, labels = ReviewMetrics(), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 1, 0])
    metrics.update(logits, torch.zeros(3), labels, torch.ones(3))
    assert float(metrics.measured()["accuracy"].compute()) == pytest.approx(2 / 3)


def test_auroc_of_one_label_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    batch = make_batch(5, seed=0)
    batch["labels"] = torch.ones(5, dtype=torch.int64)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        (results,) = make_trainer().validate(make_module(), Loader([batch]), verbose=False)
    assert set(results) == {"val/loss", "val/accuracy", "val/f1"}
    assert "val/auroc is left out: all reviews have the same label" in caplog.text


def test_auroc_is_left_out_after_a_split_with_both_labels_too() -> None:
    metrics, ones = ReviewMetrics(), torch.ones(3)
    metrics.update(torch.zeros(3), torch.zeros(3), torch.tensor([1, 1, 0]), ones)
    assert "auroc" in metrics.measured()
    metrics.reset()
    metrics.update(torch.zeros(3), torch.zeros(3), torch.tensor([1, 1, 1]), ones)
    assert "auroc" not in metrics.measured()


def test_all_metrics_of_a_diverged_model_are_nan() -> None:
    module = make_module()
    with torch.no_grad():
        module.model.output.bias.fill_(math.nan)
    (results,) = make_trainer().validate(module, Loader([make_batch(9, seed=0)]), verbose=False)
    assert set(results) == {"val/loss", "val/accuracy", "val/f1", "val/auroc"}
    assert all(math.isnan(value) for value in results.values())


def test_one_logit_that_is_no_number_is_enough() -> None:
    metrics, labels, ones = ReviewMetrics(), torch.tensor([1, 1, 0]), torch.ones(3)
    for logits in (torch.tensor([0.1, math.nan, 0.3]), torch.zeros(3)):
        metrics.update(logits, review_losses(logits, labels, ones), labels, ones)
    assert all(math.isnan(metric.compute()) for metric in metrics.measured().values())
    metrics.reset()
    metrics.update(torch.zeros(3), torch.zeros(3), labels, ones)
    assert not any(math.isnan(metric.compute()) for metric in metrics.measured().values())


def test_each_validation_starts_afresh_and_all_metrics_are_there() -> None:
    trainer, module = make_trainer(max_epochs=2, num_sanity_val_steps=1), make_module()
    validation = Loader([make_batch(8, seed=3)])
    fit(trainer, module, Loader([make_batch(4, seed=0)]), validation)
    assert {"train/loss", "train/accuracy", "lr", "val/loss", "val/accuracy", "val/f1", "val/auroc"} == set(
        trainer.callback_metrics
    )
    in_training = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    (again,) = make_trainer().validate(module, validation, verbose=False)
    assert again == pytest.approx(in_training)
