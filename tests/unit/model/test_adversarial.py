"""Moves of a review's vectors, and the loss of virtual adversarial training."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from doubles.small_runs import WITHOUT_DROPOUT, Batch, make_batch, make_module
from torch import Tensor

from textrnn.model.adversarial import adversarial_move, divergences, first_move, virtual_losses
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.kernels.passes import CELLS
from textrnn.model.loss import training_loss

SHARE = 0.3


def test_a_move_has_its_length_and_leaves_fillers_and_padding() -> None:
    vectors, gradient = torch.randn(3, 4, 2), torch.randn(3, 4, 2) * 1e-9
    vectors[:, 2:], gradient[:, 2:], gradient[1] = 0, 0, 0
    move = adversarial_move(vectors, gradient, 0.25)
    lengths = vectors.flatten(1).norm(dim=1) * torch.tensor([0.25, 0, 0.25])
    torch.testing.assert_close(move.flatten(1).norm(dim=1), lengths)
    assert move.isfinite().all()
    assert not move[:, 2:].any()


def test_a_moves_length_is_right_in_half_precision() -> None:
    vectors, gradient = torch.randn(2, 400, 100) * 3, torch.randn(2, 400, 100) * 600  # of a length over 65504
    exact = adversarial_move(vectors.half().double(), gradient.half().double(), 0.25)
    move = adversarial_move(vectors.half(), gradient.half(), 0.25)
    assert move.dtype == torch.float16
    torch.testing.assert_close(move.double(), exact, rtol=2e-3, atol=1e-5)


# --- virtual adversarial training ---------------------------------------------------------------------------------


def double_module(**changes: Any) -> ReviewClassifier:
    changes = {**WITHOUT_DROPOUT, "adversarial": 0.0, "virtual_adversarial": SHARE, **changes}
    module = make_module(**changes).double()
    with torch.no_grad():
        module.model.output.weight.mul_(10)  # predictions that a move changes
    return module


def virtual_part(module: ReviewClassifier, batch: Batch, **named: Any) -> Tensor:
    """The loss that virtual adversarial training adds."""
    plain = training_loss(module.model, batch, replace(module.model_config, virtual_adversarial=0.0))
    return training_loss(module.model, batch, module.model_config, **named).loss - plain.loss


@pytest.mark.parametrize("classes", [2, 4])
def test_a_divergence_is_that_of_the_distributions(classes: int) -> None:
    logits, moved = torch.randn(2, 9, classes, dtype=torch.float64) * 5
    known, found = (torch.distributions.Categorical(logits=of) for of in (logits, moved))
    expected = torch.distributions.kl_divergence(known, found)
    torch.testing.assert_close(divergences(logits, moved), expected, rtol=0, atol=1e-13)
    if classes == 2:
        one, other = (of[:, 1] - of[:, 0] for of in (logits, moved))
        torch.testing.assert_close(divergences(one, other), expected, rtol=0, atol=1e-13)
        assert torch.autograd.gradcheck(lambda scores: divergences(one, scores), other.requires_grad_())
    assert torch.autograd.gradcheck(lambda scores: divergences(logits, scores), moved.requires_grad_())
    far = torch.tensor([2000.0, -2000.0])
    assert divergences(far, -far).tolist() == [2000.0, 2000.0]


def test_a_divergence_of_several_labels_is_the_mean_of_their_questions() -> None:
    logits, moved = torch.randn(2, 9, 3, dtype=torch.float64) * 5
    known, found = (torch.distributions.Bernoulli(logits=of) for of in (logits, moved))
    expected = torch.distributions.kl_divergence(known, found).mean(dim=1)
    torch.testing.assert_close(divergences(logits, moved, many_labels=True), expected, rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda of: divergences(logits, of, many_labels=True), moved.requires_grad_())


def slow_divergence(module: ReviewClassifier, batch: Batch, seed: int) -> Tensor:
    """The paper's equations, review by review, each alone in its batch and without padding."""
    network, losses = module.model, []
    numbers = torch.Generator().manual_seed(seed)
    field = torch.tensor([[torch.rand(1, generator=numbers).item() for _ in range(6)] for _ in range(20)]) - 0.5

    def prediction(vectors: Tensor) -> Tensor:
        logits = network.classify(vectors, torch.tensor([vectors.shape[1]]))
        questions = logits.ndim == 1 or batch["labels"].ndim == 2  # of two answers each
        scores = torch.stack((torch.zeros_like(logits), logits), dim=-1) if questions else logits
        return scores.softmax(-1)[0]

    def divergence(before: Tensor, vectors: Tensor) -> Tensor:
        after = prediction(vectors)
        return (before * (before / after).log()).sum(dim=-1).mean()

    for token_ids, length, weight in zip(batch["token_ids"], batch["lengths"], batch["weights"], strict=True):
        if weight == 0:
            continue
        vectors = network.embedding(token_ids[None, :length])
        still, before = vectors.detach(), prediction(vectors).detach()
        start = field[None, :length].double()
        aside = (still + SHARE * still.norm() * start / start.norm()).requires_grad_()
        (slope,) = torch.autograd.grad(divergence(before, aside), aside)
        losses.append(divergence(before, vectors + SHARE * still.norm() * slope / slope.norm()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("implementation", ["compiled", "fused", "packed", "cell"])
@pytest.mark.parametrize(("cell", "classes"), [*((cell, 2) for cell in CELLS), ("gru", 4)])
def test_it_is_the_equation_review_by_review(cell: str, classes: int, implementation: str) -> None:
    module = double_module(cell=cell, implementation=implementation, classes=classes, num_layers=2, dropout=0.0)
    assert_equation(module, make_batch(7, seed=1, fillers=2, classes=classes))


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_equation_of_several_labels(classes: int) -> None:
    batch = make_batch(7, seed=1, fillers=2)
    labels = torch.randint(0, 2, (7, classes), generator=torch.Generator().manual_seed(0)).double()
    assert_equation(double_module(classes=classes, many_labels=True), {**batch, "labels": labels})


def assert_equation(module: ReviewClassifier, batch: Batch) -> None:
    found, expected = virtual_part(module, batch, seed=3), slow_divergence(module, batch, seed=3)
    assert expected > 1e-4
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=0, atol=1e-12)
    parameters = dict(module.model.named_parameters())
    pairs = (torch.autograd.grad(of, list(parameters.values())) for of in (found, expected))
    for name, one, other in zip(parameters, *pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12, msg=name)


def test_the_direction_of_two_classes_is_that_of_the_logit() -> None:
    module, batch = double_module(), make_batch(9, seed=0)
    vectors = module.model.embedding(batch["token_ids"]).detach().requires_grad_()
    logits = module.model.classify(vectors, batch["lengths"])
    (slope,) = torch.autograd.grad(logits.sum(), vectors)
    moved = adversarial_move(vectors.detach(), slope, 1e-4)
    found = virtual_losses(module.model, vectors, batch["lengths"], logits.detach(), 1e-4, seed=0)
    expected = divergences(logits, module.model.classify(vectors + moved, batch["lengths"]))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)


def test_a_move_changes_predictions_more_than_the_random_one_does() -> None:
    module, batch = double_module(classes=4), make_batch(9, seed=0, classes=4)
    vectors, lengths = module.model.embedding(batch["token_ids"]).detach(), batch["lengths"]
    logits = module.model.classify(vectors, lengths).detach()
    chance = divergences(logits, module.model.classify(vectors + first_move(vectors, lengths, 0.1, 0), lengths))
    found = virtual_losses(module.model, vectors, lengths, logits, 0.1, seed=0)
    assert found.mean() > 4 * chance.mean()


def test_a_random_move_depends_on_no_other_review() -> None:
    vectors = torch.randn(3, 9, 4, dtype=torch.float64)
    lengths = torch.tensor([5, 9, 2])
    vectors = vectors * (torch.arange(9) < lengths[:, None])[..., None]
    moves = first_move(vectors, lengths, 0.25, seed=7)
    torch.testing.assert_close(moves.flatten(1).norm(dim=1), 0.25 * vectors.flatten(1).norm(dim=1))
    assert not moves[0, 5:].any()
    # A norm is summed in another order where there is padding.
    alone = first_move(vectors[:1, :5], lengths[:1], 0.25, seed=7)
    torch.testing.assert_close(alone, moves[:1, :5], rtol=1e-14, atol=0)
    assert not torch.equal(first_move(vectors, lengths, 0.25, seed=8), moves)


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_all_passes_draw_the_same_dropout(adversarial: float) -> None:
    """Else the predictions of a review that hardly moves would differ by their dropout."""
    dropout = dict.fromkeys(("word_dropout", "embedding_dropout", "output_dropout", "dropout"), 0.5)
    module = double_module(**dropout, num_layers=2, virtual_adversarial=1e-6, adversarial=adversarial)
    batch = {**make_batch(9, seed=0), "unlabelled": make_batch(9, seed=1)}
    torch.manual_seed(0)
    plain = training_loss(module.model, batch, replace(module.model_config, virtual_adversarial=0.0, adversarial=0.0))
    torch.manual_seed(0)
    found = training_loss(module.model, batch, module.model_config)
    assert torch.equal(found.logits, plain.logits)
    if adversarial == 0:
        torch.testing.assert_close(found.loss, plain.loss, rtol=0, atol=1e-9)
    following = torch.rand(1)
    torch.manual_seed(0)
    assert not torch.equal(following, torch.rand(1)), "the next pass has its own dropout"


@pytest.mark.parametrize("classes", [2, 3])
def test_unlabelled_reviews_count_like_the_others(classes: int) -> None:
    module = double_module(classes=classes)
    one, other = make_batch(7, seed=1, fillers=2, classes=classes), make_batch(4, seed=2, classes=classes)
    alone = [float(virtual_part(module, batch, seed=5).detach()) for batch in (one, other)]
    others = {**other, "labels": torch.full((4,), -1)}
    both = float(virtual_part(module, {**one, "unlabelled": others}, seed=5).detach())
    assert both == pytest.approx((5 * alone[0] + 4 * alone[1]) / 9, abs=1e-12)


def test_mixed_precision_moves_reviews_too() -> None:
    module = make_module(**WITHOUT_DROPOUT, adversarial=0.0, virtual_adversarial=SHARE)
    with torch.no_grad():
        module.model.output.weight.mul_(10)
    batch = make_batch(9, seed=0)
    plain = virtual_part(module, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = virtual_part(module, batch, scale=lambda loss: loss * 1024)
    assert float(found.detach()) == pytest.approx(float(plain.detach()), rel=0.1)
