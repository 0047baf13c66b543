"""A training batch's loss: smoothed labels, and the second pass of adversarial training."""

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from doubles.small_runs import (
    WITHOUT_DROPOUT,
    Batch,
    Loader,
    make_batch,
    make_module,
    make_predictions,
    make_trainer,
    train,
)
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from textrnn.config.schema import EmbeddingConfig
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.kernels.passes import CELLS
from textrnn.model.loss import review_losses, training_loss
from textrnn.model.network import class_probabilities, correct_reviews, predicted_classes

SHARE = 0.3


# --- label smoothing ----------------------------------------------------------------------------------------------


def test_a_smoothed_label_is_the_mixture_of_both_losses() -> None:
    logits, weights = torch.tensor([2.0, -0.5, 3.0], dtype=torch.float64), torch.tensor([1.0, 1.0, 0.0])
    labels = torch.tensor([1, 0, 1])
    right, wrong = (review_losses(logits, given, weights) for given in (labels, 1 - labels))
    torch.testing.assert_close(review_losses(logits, labels, weights, 0.2), 0.9 * right + 0.1 * wrong)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_more_classes_have_torchs_cross_entropy(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator).requires_grad_()
    labels, weights = torch.tensor([0, 3, 1, 2, 2, 0]), torch.tensor([1.0, 1, 1, 0, 1, 1], dtype=torch.float64)
    losses = review_losses(logits, labels, weights, smoothing)
    rows = zip(logits, labels, weights, strict=True)
    expected = [
        weight * torch.nn.functional.cross_entropy(row[None], label[None], label_smoothing=smoothing)
        for row, label, weight in rows
    ]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=0, atol=1e-14)
    # The definition: e of the target is spread over all classes.
    targets = torch.nn.functional.one_hot(labels, 4).double() * (1 - smoothing) + smoothing / 4
    torch.testing.assert_close(losses, -weights * (targets * logits.log_softmax(1)).sum(1), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda scores: review_losses(scores, labels, weights, smoothing), logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_several_labels_a_review_are_questions_of_their_own(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    weights = torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)
    losses = review_losses(logits, labels, weights, smoothing)
    expected = torch.stack([review_losses(logits[:, c], labels[:, c], weights, smoothing) for c in range(3)]).mean(0)
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda scores: review_losses(scores, labels, weights, smoothing), logits)
    alone = torch.stack([class_probabilities(logits[:, c])[:, 1] for c in range(3)], dim=1)
    torch.testing.assert_close(class_probabilities(logits, many_labels=True), alone, rtol=0, atol=1e-14)
    right = torch.tensor([[-1.0, 2, 1], [-1, -1, 1], [1, 1, 1], [-1, 1, -1]])
    assert correct_reviews(right, labels).tolist() == [True, False, True, True]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_two_classes_cost_the_same_with_one_logit_and_with_two(smoothing: float) -> None:
    logits, labels, weights = torch.randn(5, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0]), torch.ones(5)
    pairs = torch.stack((torch.zeros(5, dtype=torch.float64), logits), dim=1)
    one, two = (review_losses(of, labels, weights, smoothing) for of in (logits, pairs))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-14)
    torch.testing.assert_close(class_probabilities(logits), class_probabilities(pairs), rtol=0, atol=1e-14)
    assert torch.equal(predicted_classes(logits), predicted_classes(pairs))


@pytest.mark.parametrize("classes", [2, 3])
def test_only_training_smooths_labels(classes: int) -> None:
    batch = make_batch(9, seed=0, classes=classes)
    module = make_module(classes=classes, label_smoothing=0.2, **WITHOUT_DROPOUT)
    with torch.no_grad():
        module.model.output.weight.mul_(100)  # away from 0, where both losses are the same
        logits = module(batch["token_ids"], batch["lengths"])
    (validated,) = make_trainer(make_predictions([batch], classes=classes)).validate(
        module, Loader([batch]), verbose=False
    )
    plain, smoothed = (float(review_losses(logits, batch["labels"], torch.ones(9), share).mean()) for share in (0, 0.2))
    assert validated["val/loss"] == pytest.approx(plain, rel=1e-6)
    trained = train([batch], module)[1]
    assert trained["loss"] == pytest.approx(smoothed, rel=1e-6)
    assert trained["accuracy"] == pytest.approx(validated["val/accuracy"])
    assert smoothed != pytest.approx(plain, rel=1e-3)


# --- adversarial training -----------------------------------------------------------------------------------------


def double_module(**changes: Any) -> ReviewClassifier:
    module = make_module(**{**WITHOUT_DROPOUT, "adversarial": SHARE, **changes}).double()
    with torch.no_grad():
        module.model.output.weight.mul_(10)  # a loss that a move changes
    return module


def gradients_of(module: ReviewClassifier, loss: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {name: parameter.grad for name, parameter in module.model.named_parameters() if parameter.grad is not None}


def slow_loss(module: ReviewClassifier, batch: Batch) -> Tensor:
    """Miyato et al.'s equation, review by review, each alone in its batch and without padding."""
    network = module.model
    losses = []
    for token_ids, length, label, weight in zip(
        *(batch[name] for name in ("token_ids", "lengths", "labels", "weights")), strict=True
    ):
        if weight == 0:
            continue
        vectors = network.embedding(token_ids[None, :length])

        def loss(vectors: Tensor, length: Tensor = length, label: Tensor = label) -> Tensor:
            logits = network.classify(vectors, length[None])
            if logits.ndim == 2:
                return -logits.log_softmax(1)[0, label]
            return -torch.nn.functional.logsigmoid(logits if label == 1 else -logits).sum()

        still = vectors.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(still), still)
        losses.append((loss(vectors) + loss(vectors + SHARE * still.detach().norm() * slope / slope.norm())) / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("implementation", ["compiled", "fused", "packed", "cell"])
@pytest.mark.parametrize(("cell", "classes"), [*((cell, 2) for cell in CELLS), ("gru", 4)])
def test_it_is_the_equation_review_by_review(cell: str, classes: int, implementation: str) -> None:
    changes: dict[str, Any] = {"num_layers": 2, "dropout": 0.0, "initial_state": "learned", "classes": classes}
    module = double_module(cell=cell, implementation=implementation, **changes)
    batch = make_batch(7, seed=1, fillers=2, classes=classes)
    found = training_loss(module.model, batch, module.model_config)
    gradients = gradients_of(module, found.loss)
    expected = slow_loss(module, batch)
    torch.testing.assert_close(found.loss.detach(), expected.detach(), rtol=0, atol=1e-12)
    for name, gradient in gradients_of(module, expected).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-12, msg=name)
    assert len(gradients) == len(list(module.model.parameters()))


def test_frozen_parameters_get_no_gradient() -> None:
    module = double_module()
    module.model.output.bias.requires_grad_(False)
    found = training_loss(module.model, make_batch(5, seed=0), module.model_config)
    weights = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
    assert all(gradient.any() for gradient in torch.autograd.grad(found.loss, weights))


def test_the_losses_that_are_logged_are_those_of_the_reviews_as_they_are() -> None:
    batch, module = make_batch(9, seed=0, fillers=1), double_module()
    plain = training_loss(module.model, batch, replace(module.model_config, adversarial=0.0))
    found = training_loss(module.model, batch, module.model_config)
    assert torch.equal(found.losses, plain.losses)
    assert torch.equal(found.logits, plain.logits)
    assert found.loss > plain.loss * 1.01, "the moved reviews are harder"
    assert train([batch], make_module(**WITHOUT_DROPOUT, adversarial=SHARE))[1]["loss"] == pytest.approx(
        train([batch], make_module(**WITHOUT_DROPOUT))[1]["loss"]
    )


def test_both_passes_see_the_same_dropped_words_and_components() -> None:
    module = double_module(word_dropout=0.3, embedding_dropout=0.5, adversarial=1e-9)
    batch = make_batch(9, seed=0)
    found = []
    for config in (module.model_config, replace(module.model_config, adversarial=0.0)):
        torch.manual_seed(0)
        found.append(gradients_of(module, training_loss(module.model, batch, config).loss))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=0, atol=1e-7, msg=name)


def test_the_gradient_is_scaled_before_it_is_taken() -> None:
    module, batch = double_module(), make_batch(9, seed=0)
    plain = gradients_of(module, training_loss(module.model, batch, module.model_config).loss)
    taken: list[float] = []

    def scale(loss: Tensor) -> Tensor:
        taken.append(float(loss))
        return loss * 1024

    loss = training_loss(module.model, batch, module.model_config, scale=scale).loss
    for name, gradient in gradients_of(module, loss * 1024 / 3).items():
        torch.testing.assert_close(gradient, plain[name] * 1024 / 3)
    assert taken == [1.0]


def test_frozen_vectors_stay_and_the_rest_learns() -> None:
    batch = make_batch(9, seed=0)
    frozen = double_module(embedding=EmbeddingConfig(size=6, trainable=False))
    tuned = double_module()
    found, others = (
        gradients_of(module, training_loss(module.model, batch, module.model_config).loss) for module in (frozen, tuned)
    )
    assert found.keys() == others.keys() - {"embedding.table.weight"}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, others[name])


def test_mixed_precision_moves_reviews_too() -> None:
    module, batch = make_module(**WITHOUT_DROPOUT, adversarial=SHARE), make_batch(9, seed=0)
    plain = gradients_of(module, training_loss(module.model, batch, module.model_config).loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(module.model, batch, module.model_config).loss
    for name, gradient in gradients_of(module, loss).items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, plain[name], rtol=0.1, atol=2e-3, msg=name)


def test_half_precision_scales_both_passes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, losses = [make_batch(9, seed=seed) for seed in range(4)], []
    scaler = torch.amp.GradScaler("cpu")
    scale = Mock(wraps=scaler.scale)
    monkeypatch.setattr(scaler, "scale", scale)
    half = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    for plugins in (None, half):
        module = make_module(**WITHOUT_DROPOUT, adversarial=SHARE, implementation="cell")
        rows = train(batches, module, plugins=plugins, gradient_clip_val=1.0)
        losses.append([row["loss"] for row in rows.values()])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert scale.call_count == 2 * len(batches)
    assert scaler.get_scale() >= 65536, "no step was skipped"
