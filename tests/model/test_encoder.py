"""Dropout between layers, and poolings on numbers that can be checked by eye."""

import pytest
import torch

from textrnn.config import POOLINGS, ModelConfig
from textrnn.model.encoder import Encoder
from textrnn.model.pooling import Pooling

STATES = torch.tensor([[[-1.0, 10.0], [-3.0, 30.0], [0.0, 0.0]], [[5.0, -6.0], [1.0, -2.0], [4.0, -4.0]]])
LENGTHS = torch.tensor([2, 3])


@pytest.mark.parametrize(
    ("kind", "bidirectional", "expected"),
    [
        ("last", False, [[-3.0, 30.0], [4.0, -4.0]]),
        ("last", True, [[-3.0, 10.0], [4.0, -6.0]]),
        ("mean", True, [[-2.0, 20.0], [10 / 3, -4.0]]),
        ("max", True, [[-1.0, 30.0], [5.0, -2.0]]),  # the padding's 0 is no maximum
        ("max_mean", True, [[-1.0, 30.0, -2.0, 20.0], [5.0, -2.0, 10 / 3, -4.0]]),
    ],
)
def test_pooling(kind: str, bidirectional: bool, expected: list[list[float]]) -> None:
    pooled = Pooling(kind, bidirectional=bidirectional)(STATES, LENGTHS)
    torch.testing.assert_close(pooled, torch.tensor(expected))


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_knows_its_size(kind: str) -> None:
    pooling = Pooling(kind, bidirectional=True)
    assert pooling(STATES, LENGTHS).shape == (2, pooling.output_size(2))


def encoder(num_layers: int, dropout: float) -> Encoder:
    return Encoder(ModelConfig(hidden_size=4, num_layers=num_layers, dropout=dropout), 3)


@pytest.mark.parametrize(("num_layers", "changes"), [(1, False), (2, True)])
def test_dropout_lies_between_layers_only(num_layers: int, changes: bool) -> None:
    torch.manual_seed(0)
    layers = encoder(num_layers, dropout=0.5)
    inputs = torch.randn(2, 3, 3)
    kept = layers.eval()(inputs, LENGTHS)
    assert torch.equal(layers.train()(inputs, LENGTHS), kept) is not changes


def test_output_of_a_layer_feeds_the_next() -> None:
    layers = encoder(3, dropout=0.0)
    assert layers.output_size == 8
    inputs = torch.randn(2, 3, 3)
    by_hand = inputs
    for layer in layers.layers:
        by_hand = layer(by_hand, LENGTHS)
    assert torch.equal(layers(inputs, LENGTHS), by_hand)


def test_variational_dropout_between_layers_is_the_same_for_all_tokens() -> None:
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=16, num_layers=2, dropout=0.5, variational_dropout=True)
    made, seen = Encoder(config, 3), []
    made.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    made(torch.randn(4, 7, 3), torch.tensor([7] * 4))
    (dropped,) = seen
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0.3 < float(dropped.float().mean()) < 0.7
    assert not torch.equal(dropped[0], dropped[1])
