"""Temperature scaling: one number that divides all logits, so that probabilities are what they say (Guo et al. 2017).

The predicted class of a review stays the same. https://arxiv.org/abs/1706.04599
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from textrnn.evaluation.metrics import SplitPredictions

LOWEST, HIGHEST = 1e-3, 1e3
"""Temperatures that are looked for."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """Return the temperature with the smallest negative log-likelihood of the labels, in float64.

    In `1 / temperature` the loss is convex, so it is Newton's method, with bisection where a step would be too long.

    Args:
        logits: (reviews,), those of class 1 of two, or (reviews, classes).
        labels: (reviews,) int64, class ids; with several labels a review (reviews, classes), 0 or 1.

    Returns:
        The temperature; None if there is none: all reviews are labeled correctly, so that 0 would be the best one, the
        model is no better than chance, or a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        return None
    if logits.ndim == 1 or labels.ndim == 2:  # questions with two answers, of which the first has the logit 0
        logits, labels = logits.flatten(), labels.flatten()
        logits = torch.stack((torch.zeros_like(logits), logits), dim=1)
    logits = logits.double()
    margins = logits - logits.gather(1, labels.unsqueeze(1))
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slopes(margins, low)[0] >= 0 or _slopes(margins, high)[0] <= 0:
        return None
    inverse = 1.0
    for _ in range(100):
        first, second = _slopes(margins, inverse)
        low, high = (inverse, high) if first < 0 else (low, inverse)
        step = inverse - first / second if second > 0 else math.inf
        following = step if low <= step <= high else math.sqrt(low * high)
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1 / inverse


def _slopes(margins: Tensor, inverse: float) -> tuple[float, float]:
    """Return both derivatives of the mean loss, log(sum(exp(inverse * margins))), by `inverse`."""
    shares = (inverse * margins).softmax(dim=1)
    mean = (shares * margins).sum(dim=1, keepdim=True)
    return float(mean.mean()), float((shares * (margins - mean) ** 2).sum(dim=1).mean())


def calibration_line(predictions: "SplitPredictions") -> str:
    """Return the expected calibration error of predictions, before and after they are scaled, as a line."""
    before = f"expected calibration error {predictions.calibration_error():.4f}"
    if predictions.temperature is None:
        return f"{before}; no temperature was fitted on validation"
    after = predictions.calibrated().calibration_error()
    return f"{before}, with temperature {predictions.temperature:.4g} {after:.4f}"
