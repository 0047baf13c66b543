"""The temperature: the best one there is, or none; it changes probabilities and no label."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from textrnn.config.schema import LABELS
from textrnn.evaluation.calibration import calibration_line, fit_temperature
from textrnn.evaluation.metrics import SplitPredictions, predictions_of

KINDS = ("two", "four", "several")


def draws(kind: str, reviews: int = 4000, *, seed: int = 0) -> SplitPredictions:
    """Perfectly calibrated predictions: labels are drawn with the logits' own probabilities."""
    generator = torch.Generator().manual_seed(seed)
    shape = (reviews,) if kind == "two" else (reviews, 4)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "four":
        labels = logits.softmax(dim=1).multinomial(1, generator=generator).squeeze(1)
    else:
        labels = (torch.rand(shape, generator=generator, dtype=torch.float64) < logits.sigmoid()).long()
    return predictions_of(
        logits=logits,
        labels=labels,
        lengths=torch.ones(reviews, dtype=torch.int64),
        indices=torch.arange(reviews),
        classes=LABELS if kind == "two" else ("a", "b", "c", "d"),
    )


def loss(logits: Tensor, labels: Tensor) -> float:
    """The mean negative log-likelihood, from probabilities."""
    values, answers = logits.numpy(), labels.numpy()
    if values.ndim == 2 and answers.ndim == 1:
        shares = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        return float(-np.log(shares[np.arange(len(answers)), answers]).mean())
    return float(np.log1p(np.exp(np.where(answers == 1, -values, values))).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.03, 0.5, 1.0, 3.0, 20.0])
def test_the_temperature_is_the_minimum_that_scipy_finds(kind: str, scale: float) -> None:
    of = draws(kind, 500)
    logits = scale * of.logits
    found = fit_temperature(logits, of.labels)
    best = minimize_scalar(
        lambda power: loss(logits / math.exp(power), of.labels),
        bounds=(math.log(scale) - 2, math.log(scale) + 2),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found == pytest.approx(math.exp(best.x), rel=1e-5)  # as flat as a minimum is
    assert found is not None
    for other in (0.99, 1.01):
        assert loss(logits / found, of.labels) < loss(logits / (found * other), of.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_what_scales_the_logits_scales_the_temperature(kind: str) -> None:
    of = draws(kind)
    own = fit_temperature(of.logits, of.labels)
    assert own == pytest.approx(1, abs=0.06), "the draws are calibrated"
    assert own is not None
    assert fit_temperature(3 * of.logits, of.labels) == pytest.approx(3 * own, rel=1e-9)
    assert fit_temperature(of.logits.float(), of.labels) == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_overconfident_predictions_are_calibrated_and_keep_their_labels(kind: str) -> None:
    validation, test = draws(kind, seed=1), draws(kind, seed=2)
    assert test.calibration_error() < 0.02, "the draws are calibrated"
    for predictions in (validation, test):
        predictions.logits = (3 * predictions.logits).float()
    test.temperature = fit_temperature(validation.logits, validation.labels)
    assert test.temperature is not None
    assert test.temperature > 1
    scaled = test.calibrated()
    assert type(scaled) is type(test)
    assert (scaled.logits.dtype, scaled.temperature) == (torch.float64, None)
    assert torch.equal(scaled.predicted, test.predicted)
    assert test.calibration_error() > 0.1
    assert scaled.calibration_error() < 0.02
    assert scaled.metrics()["loss"] < test.metrics()["loss"]
    assert scaled.metrics()["auroc"] == pytest.approx(test.metrics()["auroc"], abs=2e-3)
    assert calibration_line(test) == (
        f"expected calibration error {test.calibration_error():.4f}, with temperature {test.temperature:.4g} "
        f"{scaled.calibration_error():.4f}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_is_no_best_temperature_there_is_none(kind: str) -> None:
    of = draws(kind, 50)
    right = of.predicted if kind != "four" else of.logits.argmax(dim=1)
    assert fit_temperature(of.logits, right) is None, "all are right: the smaller, the better"
    wrong = 1 - right if kind != "four" else of.logits.argmin(dim=1)
    assert fit_temperature(of.logits, wrong) is None, "worse than chance: the larger, the better"
    for value in (math.nan, math.inf):
        diverged = of.logits.clone()
        diverged[3] = value
        assert fit_temperature(diverged, of.labels) is None
    assert fit_temperature(torch.zeros_like(of.logits), of.labels) is None, "any is as good"
    assert calibration_line(of).endswith("; no temperature was fitted on validation")
    assert torch.equal(of.calibrated().logits, of.logits)


def test_one_mistake_among_confident_answers_has_a_temperature() -> None:
    logits = torch.tensor([10.0] * 500 + [0.1])
    labels = torch.tensor([1] * 500 + [0])
    found = fit_temperature(logits, labels)
    assert found is not None
    assert 0.1 < found < 10
