"""How a layer's weights and biases start."""

import pytest
import torch

from textrnn.config.schema import CELLS, ModelConfig
from textrnn.model.encoder import Encoder, RecurrentLayer
from textrnn.model.recurrent import GATES, KERNELS, Direction


@pytest.mark.parametrize("cell", CELLS)
def test_initial_weights(cell: str) -> None:
    direction = Direction(cell, 6, 8, initial_state="zeros", nonlinearity="tanh", bias=True)
    direction.initialize("orthogonal", forget_bias=1.5)
    weight_ih, weight_hh, bias_ih, bias_hh = direction.weights
    gates = GATES[cell]
    for gate in weight_hh.chunk(gates) if weight_hh.numel() else ():
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
    bound = (6 / (6 + 8)) ** 0.5  # Glorot & Bengio 2010, of one gate's 8 x 6 matrix
    assert 0.8 * bound < weight_ih.abs().max() <= bound
    bias = (bias_ih + bias_hh).chunk(gates)
    for index, part in enumerate(bias):
        expected = 1.5 if cell == "lstm" and index == 1 else 0.0
        assert torch.equal(part.detach(), torch.full((8,), expected))


def test_uniform_recurrent_weights() -> None:
    direction = Direction("gru", 6, 16, initial_state="zeros", nonlinearity="tanh", bias=True)
    direction.initialize("uniform", forget_bias=1.0)
    largest = direction.weights[1].abs().max()
    assert 0.9 * 0.25 < largest <= 0.25


def test_lstm_forget_bias_keeps_the_cell_state() -> None:
    # With a large forget bias and no input the cell state of the first token must survive: the bias sits on the
    # right gate of the kernel that is really run.
    layer = RecurrentLayer("lstm", 1, 1, bidirectional=False, implementation="fused")
    layer.initialize("uniform", forget_bias=100.0)
    direction = layer.directions[0]
    assert isinstance(direction, Direction)
    with torch.no_grad():
        direction.weights[0].zero_()
        direction.weights[1].zero_()
    inputs, lengths = torch.zeros(1, 50, 1), torch.tensor([50])
    _, (_, cell_state) = direction.kernel(inputs.transpose(0, 1), (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
    assert cell_state.item() == pytest.approx(1.0)
    assert torch.isfinite(layer(inputs, lengths)).all()


@pytest.mark.parametrize("recurrent_init", ["uniform", "orthogonal"])
def test_the_configuration_says_how_recurrent_weights_start(recurrent_init: str) -> None:
    config = ModelConfig(cell="lstm", hidden_size=16, num_layers=2, recurrent_init=recurrent_init, forget_bias=2.5)
    for layer in Encoder(config, 5).layers:
        assert isinstance(layer, RecurrentLayer)
        for direction in layer.directions:
            assert isinstance(direction, Direction)
            _, weight_hh, bias_ih, _ = direction.weights
            gate = weight_hh[:16]
            assert torch.equal(bias_ih[16:32].detach(), torch.full((16,), 2.5))
            assert (weight_hh.abs().max() <= 0.25) == (recurrent_init == "uniform")
            assert torch.allclose(gate @ gate.T, torch.eye(16), atol=1e-5) == (recurrent_init == "orthogonal")


class WithoutRecurrentWeights(torch.nn.Module):
    """A cell whose gates don't see the state (minGRU, Feng et al. 2024), with nothing in place of W_hh and b_hh."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.all_weights = [[torch.empty(2 * hidden_size, input_size), torch.empty(2 * hidden_size)]]


def test_weights_in_another_layout_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Taken for W_ih and W_hh without biases, they would train without a bias.
    monkeypatch.setitem(KERNELS, "gru", WithoutRecurrentWeights)
    monkeypatch.setitem(GATES, "gru", 2)
    with pytest.raises(ValueError, match=r"gru: all_weights must be \[\[W_ih, W_hh, b_ih, b_hh\]\]"):
        Direction("gru", 6, 8, initial_state="zeros", nonlinearity="tanh", bias=True)
