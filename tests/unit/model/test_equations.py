"""The equations in NumPy, which stand on their own, and every implementation held against them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrnn.config.schema import ModelConfig
from textrnn.model.encoder import Encoder, RecurrentLayer
from textrnn.model.equations import STEPS, Array, gru_step, lstm_step, relu_rnn_step, rnn_step, run
from textrnn.model.recurrent import Direction

INPUT, HIDDEN = 3, 4
IMPLEMENTATIONS = ["compiled", "fused", "packed", "cell"]


def make_encoder(equation: str, layers: int, bidirectional: bool, bias: bool, initial_state: str) -> Encoder:
    """Random weights and, where they are learned, random initial states, in float64."""
    config = ModelConfig(
        cell=equation.split("_")[-1],
        nonlinearity="relu" if equation == "relu_rnn" else "tanh",
        hidden_size=HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        initial_state="learned" if initial_state == "learned" else "zeros",
    )
    encoder = Encoder(config, INPUT).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.uniform_(-0.6, 0.6)
    return encoder


def by_equation(equation: str, encoder: Encoder, review: Array, given: Sequence[Array]) -> Array:
    """The last layer's states of one review, (time, directions * hidden): the loop, layer by layer."""
    row, parts = 0, 2 if equation == "lstm" else 1
    for layer in encoder.layers:
        assert isinstance(layer, RecurrentLayer)
        states: list[Array] = []
        for direction in layer.directions:
            assert isinstance(direction, Direction)
            weights = [weight.detach().numpy() for weight in direction.weights_and_biases]
            learned = [vector.detach().numpy() for vector in direction.initial]
            initial = [part[row] for part in given] or learned or [np.zeros(HIDDEN)] * parts
            order = slice(None, None, -1 if len(states) == 1 else 1)
            states.append(run(STEPS[equation], weights, review[order], tuple(initial))[order])
            row += 1
        review = np.concatenate(states, axis=1)
    return review


@pytest.mark.parametrize("equation", STEPS)
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    initial_state=st.sampled_from(["zeros", "learned", "given"]),
    seed=st.integers(0, 2**32),
)
def test_values_and_gradients_are_those_of_the_equation(
    equation: str, lengths: list[int], layers: int, bidirectional: bool, bias: bool, initial_state: str, seed: int
) -> None:
    torch.manual_seed(seed)
    encoder = make_encoder(equation, layers, bidirectional, bias, initial_state)
    inputs = torch.randn(len(lengths), max(lengths), INPUT, dtype=torch.float64)
    shape = (layers * (1 + bidirectional), len(lengths), HIDDEN)
    parts = (2 if equation == "lstm" else 1) if initial_state == "given" else 0
    given = [torch.randn(shape, dtype=torch.float64) for _ in range(parts)]
    projection = torch.randn(len(lengths), max(lengths), encoder.output_size, dtype=torch.float64)
    variables = [inputs.requires_grad_(), *(part.requires_grad_() for part in given), *encoder.parameters()]

    def states() -> list[Array]:
        return [
            by_equation(equation, encoder, review[:length], [part.detach().numpy()[:, index] for part in given])
            for index, (review, length) in enumerate(zip(inputs.detach().numpy(), lengths, strict=True))
        ]

    def loss_of_the_equation() -> float:
        weights = zip(projection.numpy(), states(), strict=True)
        return sum(float((weight[: len(state)] * state).sum()) for weight, state in weights)

    expected = states()
    toward = [torch.randn_like(variable) for variable in variables]
    slope = derivative(loss_of_the_equation, variables, toward)
    if equation == "relu_rnn":
        assume(slope is not None)  # a relu has corners, and a central difference across one means nothing
    assert slope is not None

    for implementation in IMPLEMENTATIONS:
        for layer in encoder.layers:
            assert isinstance(layer, RecurrentLayer)
            layer.implementation = implementation
        outputs = encoder(inputs, torch.tensor(lengths), given or None)
        for output, state in zip(outputs.detach().numpy(), expected, strict=True):
            np.testing.assert_allclose(output[: len(state)], state, rtol=1e-11, atol=1e-12, err_msg=implementation)
            assert not output[len(state) :].any()
        gradients = torch.autograd.grad((projection * outputs).sum(), variables)
        along = sum(float((gradient * way).sum()) for gradient, way in zip(gradients, toward, strict=True))
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-5), implementation


def derivative(loss: Callable[[], float], variables: Sequence[Tensor], toward: Sequence[Tensor]) -> float | None:
    """The loss's derivative along one direction of all variables, by central differences.

    None where two step sizes disagree.
    """
    start = [variable.detach().clone() for variable in variables]

    def at(step: float) -> float:
        with torch.no_grad():
            for variable, origin, way in zip(variables, start, toward, strict=True):
                variable.copy_(origin + step * way)
        return loss()

    slopes = [(at(step) - at(-step)) / (2 * step) for step in (1e-5, 1e-6)]
    at(0.0)
    return slopes[0] if slopes[0] == pytest.approx(slopes[1], rel=1e-6, abs=1e-6) else None


ONE = [np.array([[0.5]]), np.array([[2.0]]), np.array([0.1]), np.array([-0.3])]
"""W_ih, W_hh, b_ih, b_hh of a cell with one unit and one input; its sum for x = 1, h = 0.2 is 0.5 + 0.4 - 0.2 = 0.7."""


def test_one_unit_of_a_plain_network_by_hand() -> None:
    x, state = np.array([1.0]), (np.array([0.2]),)
    assert rnn_step(ONE, x, state)[0] == pytest.approx(0.6043677771)  # tanh(0.7)
    assert relu_rnn_step(ONE, x, state)[0] == pytest.approx(0.7)
    assert relu_rnn_step(ONE, -3 * x, state)[0] == 0.0


def test_one_unit_of_an_lstm_by_hand() -> None:
    weights = [np.repeat(part, 4, axis=0) for part in ONE]
    h, c = lstm_step(weights, np.array([1.0]), (np.array([0.2]), np.array([-1.0])))
    # sigmoid(0.7) = 0.6681877722: c = 0.6681877722 (0.6043677771 - 1)
    assert c == pytest.approx(-0.2643566242)
    assert h == pytest.approx(-0.1726369253)  # 0.6681877722 tanh(c)


def test_one_unit_of_a_gru_by_hand() -> None:
    weights = [np.repeat(part, 3, axis=0) for part in ONE]
    (h,) = gru_step(weights, np.array([1.0]), (np.array([0.2]),))
    # n = tanh(0.5 + 0.1 + 0.6681877722 (0.4 - 0.3)) = 0.5828834, h = (1 - 0.6681877722) n + 0.6681877722 * 0.2
    assert h == pytest.approx(0.3270453889)


def test_a_loop_carries_the_state_from_token_to_token() -> None:
    tokens = np.array([[1.0], [1.0]])
    states = run(rnn_step, ONE, tokens, (np.array([0.2]),))
    assert states.shape == (2, 1)
    assert states[1] == pytest.approx(np.tanh(0.5 + 2 * np.tanh(0.7) - 0.2))
