"""Shares of tokens: they add up, equal a slow reference and, of a linear network, a formula."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from doubles.small_networks import VOCABULARY, network_of
from torch import Tensor, nn

from textrnn.config.schema import EmbeddingConfig
from textrnn.evaluation import explanations
from textrnn.evaluation.explanations import Explanation, Word, integrated_gradients, log_odds, occlusion
from textrnn.model.network import TextClassifier, class_probabilities

LENGTH = 25
CASES: list[dict[str, Any]] = [
    *({"cell": cell, "pooling": pooling} for cell, pooling in product(("rnn", "lstm", "gru"), ("last", "mean", "max"))),
    {"cell": "rnn", "nonlinearity": "relu", "pooling": "max_mean"},
    {"initial_state": "learned", "num_layers": 2, "bidirectional": False},
    {"embedding": EmbeddingConfig(size=5, bigrams=64)},
    {"embedding": EmbeddingConfig(kind="onehot")},
    {"classes": 4},
    {"classes": 3, "many_labels": True},
]


def text_of(length: int = LENGTH) -> Tensor:
    return torch.randint(2, VOCABULARY, (length,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_shares_add_up_to_the_difference_of_logits(settings: dict[str, Any]) -> None:
    network, token_ids = network_of(**settings)[0].double(), text_of()
    target = log_odds(1, many_labels=settings.get("many_labels", False))
    found = integrated_gradients(network, token_ids, target)
    assert len(found.shares) == LENGTH
    difference = found.logit - found.baseline_logit
    assert abs(sum(found.shares) - difference) <= max(0.01 * abs(difference), 0.001)
    with torch.no_grad():
        vectors = network.embedding(token_ids[None])
        for value, of in ((found.logit, vectors), (found.baseline_logit, 0 * vectors)):
            assert value == pytest.approx(target(network.classify(of, torch.tensor([LENGTH]))).item(), abs=1e-9)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_shares_equal_a_loop_over_the_path_and_the_equations(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, config = network_of(**settings)
    slow = TextClassifier(
        replace(config, implementation="cell"),
        VOCABULARY,
        classes=settings.get("classes", 2),
        many_labels=settings.get("many_labels", False),
    ).eval()
    slow.load_state_dict(network.state_dict())
    network.double(), slow.double()
    target = log_odds(0, many_labels=settings.get("many_labels", False))
    monkeypatch.setattr(explanations, "TOKENS", 7 * LENGTH)  # so that the path is read in parts
    monkeypatch.setattr(explanations, "MOST", 16)
    found = integrated_gradients(network, text_of(), target)
    vectors = slow.embedding(text_of()[None]).detach()
    expected = torch.zeros_like(vectors)
    for node, weight in zip(*np.polynomial.legendre.leggauss(found.steps), strict=True):
        point = ((node + 1) / 2 * vectors).requires_grad_()
        (gradient,) = torch.autograd.grad(target(slow.classify(point, torch.tensor([LENGTH]))), point)
        expected += weight / 2 * gradient * vectors
    assert found.shares == pytest.approx(expected.sum(2).squeeze(0).tolist(), abs=1e-9)


class LinearNetwork(nn.Module):
    """The mean of the vectors times weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.output = nn.Embedding(VOCABULARY, 5), nn.Linear(5, 1)

    def classify(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.output(vectors.sum(1) / lengths[:, None]).squeeze(1)
        return logits


def test_of_a_linear_network_a_share_is_the_product_with_its_weights() -> None:
    network: Any = LinearNetwork().double()
    found = integrated_gradients(network, text_of(), log_odds(1, many_labels=False))
    with torch.no_grad():
        expected = network.embedding(text_of()) @ network.output.weight[0] / LENGTH
    assert found.shares == pytest.approx(expected.tolist(), abs=1e-12)
    assert found.steps == explanations.FEWEST
    assert found.baseline_logit == pytest.approx(network.output.bias.item())


def test_steps_are_doubled_until_the_shares_add_up_or_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    network, target = network_of(cell="rnn", nonlinearity="relu")[0].double(), log_odds(1, many_labels=False)
    with torch.no_grad():
        for weight in network.embedding.parameters():
            weight.mul_(30)

    def error(tolerance: float) -> tuple[float, int]:
        monkeypatch.setattr(explanations, "TOLERANCE", tolerance)
        monkeypatch.setattr(explanations, "SMALLEST", 0.0)
        found = integrated_gradients(network, text_of(), target)
        difference = found.logit - found.baseline_logit
        return abs(sum(found.shares) - difference) / abs(difference), found.steps

    monkeypatch.setattr(explanations, "MOST", 256)
    rough, fine, impossible = error(0.1), error(0.005), error(0.0)
    assert rough[0] <= 0.1
    assert fine[0] <= 0.005
    assert rough[1] < fine[1] <= 256
    assert impossible[1] == 256


def test_occlusion_is_the_difference_to_the_text_with_unk(monkeypatch: pytest.MonkeyPatch) -> None:
    network, token_ids = network_of(embedding=EmbeddingConfig(size=5, bigrams=64))[0].double(), text_of()
    places = [(0, 1), (1, 4), (4, 24), (24, 25)]
    monkeypatch.setattr(explanations, "TOKENS", 2 * LENGTH)
    found = occlusion(network, token_ids, places, log_odds(1, many_labels=False))
    for (start, end), difference in zip(places, found, strict=True):
        edited = token_ids.clone()
        edited[start:end] = 1
        logits = [network(ids[None], torch.tensor([LENGTH])).item() for ids in (token_ids, edited)]
        assert difference == pytest.approx(logits[0] - logits[1], abs=1e-9)


@pytest.mark.parametrize(("shape", "many_labels"), [((7,), False), ((7, 4), False), ((7, 2), True)])
def test_the_target_is_the_log_odds_of_the_class(shape: tuple[int, ...], many_labels: bool) -> None:
    logits = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probabilities = class_probabilities(logits, many_labels=many_labels)
    for number in range(probabilities.shape[1]):
        found = log_odds(number, many_labels=many_labels)(logits)
        torch.testing.assert_close(found, probabilities[:, number].logit())


def test_an_explanation_says_whether_it_is_complete() -> None:
    words = (Word(0, 1, 1.0, 0.5), Word(2, 3, -0.4, 0.0))
    parts: dict[str, Any] = {"text": "a b", "label": "positive", "probability": 0.6, "read": (0, 3), "steps": 16}
    for logit, error, complete in ((0.595, 0.005, True), (0.5, 0.1, False), (0.607, -0.007, False)):
        found = Explanation(logit=logit, baseline_logit=0.0, words=words, **parts)
        assert found.error == pytest.approx(error)
        assert found.is_complete == complete
