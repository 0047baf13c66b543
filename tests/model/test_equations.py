"""The equations in NumPy, which stand on their own, and every implementation held against them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrnn.model.cells import Direction
from textrnn.model.equations import STEPS, Array, State, gru_step, lstm_step, relu_rnn_step, rnn_step, run
from textrnn.model.layer import RecurrentLayer

INPUT, HIDDEN = 3, 4
IMPLEMENTATIONS = ["compiled", "fused", "packed", "cell"]


def make_layers(
    equation: str, implementation: str, *, layers: int, bidirectional: bool, bias: bool
) -> list[RecurrentLayer]:
    """Layers on top of each other, with learned initial states and random weights, in float64."""
    width = HIDDEN * (1 + bidirectional)
    made = [
        RecurrentLayer(
            equation.split("_")[-1],
            INPUT if layer == 0 else width,
            HIDDEN,
            bidirectional=bidirectional,
            implementation=implementation,
            initial_state="learned",
            nonlinearity="relu" if equation == "relu_rnn" else "tanh",
            bias=bias,
        ).double()
        for layer in range(layers)
    ]
    with torch.no_grad():
        for parameter in parameters(made):
            parameter.uniform_(-0.6, 0.6)
    return made


def parameters(layers: list[RecurrentLayer]) -> list[torch.nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.parameters()]


def by_equation(equation: str, layers: list[RecurrentLayer], review: Array) -> Array:
    """The last layer's states of one review, (time, directions * hidden): the loop, layer by layer."""
    for layer in layers:
        states = []
        for index, direction in enumerate(layer.directions):
            assert isinstance(direction, Direction)
            weights = [weight.detach().numpy() for weight in direction.weights_and_biases]
            initial: State = tuple(vector.detach().numpy() for vector in direction.initial)
            turned = review[::-1] if index == 1 else review
            outputs = run(STEPS[equation], weights, turned, initial)
            states.append(outputs[::-1] if index == 1 else outputs)
        review = np.concatenate(states, axis=1)
    return review


def by_layers(layers: list[RecurrentLayer], inputs: Tensor, lengths: Tensor) -> Tensor:
    for layer in layers:
        inputs = layer(inputs, lengths)
    return inputs


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("equation", STEPS)
@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_values_and_gradients_are_those_of_the_equation(
    equation: str, implementation: str, lengths: list[int], layers: int, bidirectional: bool, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    stack = make_layers(equation, implementation, layers=layers, bidirectional=bidirectional, bias=bias)
    length, inputs = torch.tensor(lengths), torch.randn(len(lengths), max(lengths), INPUT, dtype=torch.float64)
    inputs.requires_grad_()
    outputs = by_layers(stack, inputs, length)
    projection = torch.randn_like(outputs)

    def states() -> list[Array]:
        reviews = zip(inputs.detach().numpy(), lengths, strict=True)
        return [by_equation(equation, stack, review[:count]) for review, count in reviews]

    def loss_of_the_equation() -> float:
        weights = zip(projection.numpy(), lengths, strict=True)
        return sum(
            float((weight[:count] * state).sum()) for (weight, count), state in zip(weights, states(), strict=True)
        )

    for output, state, count in zip(outputs.detach().numpy(), states(), lengths, strict=True):
        np.testing.assert_allclose(output[:count], state, rtol=1e-12, atol=1e-13)

    (projection * outputs).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for tensor in (inputs, *parameters(stack)):
        assert tensor.grad is not None
        direction = torch.randn_like(tensor)
        expected = slope(loss_of_the_equation, tensor, direction)
        # A relu's loss has corners, of which a central difference may see both sides.
        if equation != "relu_rnn" or expected is not None:
            assert float((tensor.grad * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def slope(loss: Callable[[], float], tensor: Tensor, direction: Tensor) -> float | None:
    """The loss's derivative along a direction, by central differences; None where two step sizes disagree."""
    slopes = []
    start = tensor.detach().clone()
    for step in (1e-5, 1e-6):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.copy_(start + sign * step * direction)
            values.append(loss())
        slopes.append((values[0] - values[1]) / (2 * step))
    with torch.no_grad():
        tensor.copy_(start)
    return slopes[0] if slopes[0] == pytest.approx(slopes[1], rel=1e-4, abs=1e-5) else None


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
