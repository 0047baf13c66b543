"""Language models: what each direction sees, exact and sampled losses, candidates."""

import math
from typing import Any

import pytest
import torch
from doubles.small_runs import VOCAB_SIZE, WITHOUT_DROPOUT, make_batch, make_config
from torch import Tensor
from torch.nn.functional import log_softmax

from textrnn.config.schema import CELLS, PAD_ID
from textrnn.model import language_model
from textrnn.model.language_model import CandidateSampler, LanguageModel, full_losses, predicted, sampled_losses
from textrnn.model.network import TextClassifier

COUNTS = torch.tensor([0, *range(1, VOCAB_SIZE)]) * 7
EVERYTHING = CandidateSampler(COUNTS, VOCAB_SIZE)


def make_model(*, tied: bool = True, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = make_config(**{**WITHOUT_DROPOUT, **changes})
    parts = TextClassifier(config, VOCAB_SIZE)
    model = LanguageModel(config, parts.embedding, parts.encoder, COUNTS, tied=tied).double()
    with torch.no_grad():  # as after training: at the start all scores are nearly the same
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def one_by_one(model: LanguageModel, token_ids: Tensor, lengths: Tensor) -> dict[tuple[int, int, int], float]:
    """The loss of each (direction, first neighbor, review), by torch's own kernels, a review and a token at a time."""
    kernels = [direction.kernel for direction in model.encoder.layers[0].directions]  # type: ignore[union-attr]
    losses = {}
    for review, length in enumerate(lengths.tolist()):
        ids = token_ids[review, :length]
        vectors = model.embedding.table(ids)
        for direction, project in enumerate(model.projections):
            for first in range(length - 1):
                seen, target = (
                    (vectors[: first + 1], ids[first + 1]) if direction == 0 else (vectors[first + 1 :], ids[first])
                )
                state = kernels[direction](seen if direction == 0 else seen.flip(0))[0][-1]
                scores = project(state) @ model.output.weight.T + model.output.bias
                losses[direction, first, review] = -log_softmax(scores[1:], dim=0)[target - 1].item()
    return losses


@pytest.mark.parametrize(
    ("cell", "changes", "tied"),
    [(cell, {}, True) for cell in CELLS]
    + [("gru", {}, False), ("gru", {"bidirectional": False}, True), ("lstm", {"hidden_size": 6}, True)],
    ids=str,
)
def test_losses_are_those_of_torchs_kernels_token_by_token(cell: str, changes: dict[str, Any], tied: bool) -> None:
    model = make_model(cell=cell, tied=tied, **changes)
    batch = make_batch(5, seed=1, fillers=1)
    expected = one_by_one(model, batch["token_ids"], batch["lengths"])
    losses = model.sampled_losses(batch["token_ids"], batch["lengths"], EVERYTHING.draw(0))
    inside = predicted(batch["token_ids"], batch["lengths"])
    assert {place: losses[place].item() for place in expected} == pytest.approx(expected, rel=1e-10)
    assert int(inside.sum()) * len(model.projections) == len(expected)
    assert losses.sum().item() == pytest.approx(math.fsum(expected.values()))  # 0 elsewhere
    sums = model.evaluate(batch["token_ids"], batch["lengths"], batch["weights"])
    for direction, (total, count) in enumerate(sums.tolist()):
        own = [loss for (of, _, review), loss in expected.items() if of == direction and review < 4]  # not the filler
        assert (total, count) == (pytest.approx(math.fsum(own), rel=1e-10), len(own))


def test_no_direction_sees_what_it_predicts() -> None:
    model = make_model()
    token_ids = torch.randint(2, VOCAB_SIZE, (1, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9])
    changed = token_ids.clone()
    changed[0, 4] = (changed[0, 4] - 1) % (VOCAB_SIZE - 2) + 2
    rows, others = (
        [part.view(8, -1) for part, _ in model._rows(ids, lengths, predicted(ids, lengths))]
        for ids in (token_ids, changed)
    )
    # Row p is made from token p and those before it, or from token p + 1 and those after it.
    differs = [((row != other).any(dim=1)).tolist() for row, other in zip(rows, others, strict=True)]
    assert differs == [[place >= 4 for place in range(8)], [place + 1 <= 4 for place in range(8)]]


def test_padding_and_fillers_don_t_count() -> None:
    model = make_model()
    batch = make_batch(4, seed=3)
    wider = torch.nn.functional.pad(batch["token_ids"], (0, 5))
    ones = torch.ones(4)
    narrow, wide = (model.evaluate(ids, batch["lengths"], ones) for ids in (batch["token_ids"], wider))
    torch.testing.assert_close(wide, narrow)
    assert model.evaluate(wider, batch["lengths"], torch.zeros(4)).tolist() == [[0.0, 0.0]] * 2


def test_reviews_of_one_token_predict_nothing() -> None:
    model = make_model()
    token_ids, lengths = torch.tensor([[3], [4]]), torch.ones(2, dtype=torch.int64)
    assert model.sampled_losses(token_ids, lengths, EVERYTHING.draw(0)).shape == (2, 0, 2)
    assert model.evaluate(token_ids, lengths, torch.ones(2)).tolist() == [[0.0, 0.0]] * 2


# --- sampled and full softmax --------------------------------------------------------------------------------------


def made_rows(predictions: int) -> tuple[Tensor, Tensor, torch.nn.Linear]:
    torch.manual_seed(2)
    output = torch.nn.Linear(6, VOCAB_SIZE).double()
    rows = torch.randn(predictions, 6, dtype=torch.float64, requires_grad=True)
    return rows, torch.randint(1, VOCAB_SIZE, (predictions,)), output


def exact_losses(rows: Tensor, targets: Tensor, output: torch.nn.Linear) -> Tensor:
    """Cross-entropies over all tokens but padding, by torch."""
    return torch.nn.functional.cross_entropy(output(rows)[:, 1:], targets - 1, reduction="none")


@pytest.mark.parametrize("at_a_time", [1, 7, 50, 64])
def test_the_full_softmax_is_torchs_some_rows_at_a_time(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "ROWS_AT_A_TIME", at_a_time)
    rows, targets, output = made_rows(50)
    for scale in (1, 1e4):  # of which the exponentials have no float
        scaled = scale * rows.detach()
        ours, exact = full_losses(scaled, targets, output), exact_losses(scaled, targets, output)
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)
    assert full_losses(rows[:0], targets[:0], output).shape == (0,)


def test_all_tokens_as_candidates_are_the_full_softmax() -> None:
    rows, targets, output = made_rows(50)
    of_sampled = sampled_losses(rows, targets, output, EVERYTHING.draw(0))
    of_full = exact_losses(rows, targets, output)
    torch.testing.assert_close(of_sampled, of_full, rtol=1e-12, atol=1e-12)
    for ours, exact in zip(
        *(torch.autograd.grad(losses.sum(), [rows, *output.parameters()]) for losses in (of_sampled, of_full)),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 4, VOCAB_SIZE])
def test_gradients_of_the_sampled_loss(draws: int) -> None:
    rows, targets, output = made_rows(7)
    candidates = CandidateSampler(COUNTS, draws).draw(0)
    if draws == 1:
        targets[0] = candidates.tokens[0]  # a row without any candidate
    assert torch.autograd.gradcheck(
        lambda *_: sampled_losses(rows, targets, output, candidates), (rows, output.weight, output.bias)
    )


def test_the_sampled_normalizer_is_exact_in_the_mean() -> None:
    rows, targets, output = made_rows(6)
    sampler = CandidateSampler(COUNTS, 5)
    own = output(rows).gather(1, targets.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        draws = [(sampled_losses(rows, targets, output, sampler.draw(seed)) + own).exp() for seed in range(1000)]
        exact = (full_losses(rows, targets, output) + own).exp()
        error = torch.stack(draws).std(dim=0) / math.sqrt(len(draws))
        assert ((torch.stack(draws).mean(dim=0) - exact).abs() < 4 * error).all()


def test_the_sampled_gradient_tends_to_the_exact_one() -> None:
    rows, targets, output = made_rows(40)
    (exact,) = torch.autograd.grad(exact_losses(rows, targets, output).mean(), rows)

    def distance(draws: int) -> float:
        sampler = CandidateSampler(COUNTS, draws)
        losses = [sampled_losses(rows, targets, output, sampler.draw(seed)).mean() for seed in range(60)]
        (mean,) = torch.autograd.grad(torch.stack(losses).mean(), rows)
        return float((mean - exact).norm() / exact.norm())

    distances = [distance(draws) for draws in (2, 6, 18)]
    assert distances[0] > 1.5 * distances[1] > 1.5**2 * distances[2]


def test_candidates_are_drawn_by_frequency_without_padding() -> None:
    sampler = CandidateSampler(COUNTS, 6)
    assert torch.equal(sampler.draw(3).tokens, sampler.draw(3).tokens)
    assert not torch.equal(sampler.draw(3).tokens, sampler.draw(4).tokens)
    drawn = [sampler.draw(seed) for seed in range(3000)]
    shares = torch.stack([torch.bincount(of.tokens, minlength=VOCAB_SIZE) for of in drawn]).double().mean(dim=0)
    assert shares[PAD_ID] == 0
    weights = torch.arange(VOCAB_SIZE).double() ** 0.75
    expected = 1 - (1 - weights / weights.sum()) ** 6
    assert (shares - expected).abs().max() < 4 * math.sqrt(0.25 / len(drawn))
    for of in drawn[:20]:
        torch.testing.assert_close(of.log_inclusion, expected[of.tokens].log())
        assert len(of.tokens) == len(set(of.tokens.tolist()))
