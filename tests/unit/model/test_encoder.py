"""Layers on top of each other, and dropout between them."""

import pytest
import torch

from textrnn.config.schema import ModelConfig
from textrnn.model.encoder import Encoder

LENGTHS = torch.tensor([2, 3])


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
