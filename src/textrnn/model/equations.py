"""The cells' equations in NumPy, as a step and a loop: the reference for every implementation.

This module has the equations of the papers; it is not fast and does not train. A step takes one token's vector x,
(input,), and the state before it; the state after it has the same shape. `weights` are W_ih, W_hh, b_ih and b_hh in
torch's layout, which stacks the matrices of a cell's gates:

    cell  gates       W_ih                 W_hh                  b_ih, b_hh
    rnn   -           (hidden, input)      (hidden, hidden)      (hidden,)
    lstm  i, f, g, o  (4 * hidden, input)  (4 * hidden, hidden)  (4 * hidden,)
    gru   r, z, n     (3 * hidden, input)  (3 * hidden, hidden)  (3 * hidden,)

Each gate multiplies the old state with a (hidden, hidden) matrix of its own: four in an LSTM (input, forget, new value,
output), three in a GRU (reset, update, new value). One product with the stacked matrix computes all of them.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Sequence[Array]
State = tuple[Array, ...]
"""(h,) of rnn and gru, (h, c) of lstm, each (hidden,)."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which doesn't overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def rnn_step(weights: Weights, x: Array, state: State) -> State:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990; documentation of torch.nn.RNN)."""
    w_ih, w_hh, b_ih, b_hh = weights
    (h,) = state
    return (np.tanh(w_ih @ x + b_ih + w_hh @ h + b_hh),)


def relu_rnn_step(weights: Weights, x: Array, state: State) -> State:
    """h' = max(0, W_ih x + b_ih + W_hh h + b_hh) (documentation of torch.nn.RNN, `nonlinearity="relu"`)."""
    w_ih, w_hh, b_ih, b_hh = weights
    (h,) = state
    return (np.maximum(0, w_ih @ x + b_ih + w_hh @ h + b_hh),)


def lstm_step(weights: Weights, x: Array, state: State) -> State:
    """c' = f c + i g, h' = o tanh(c') (Hochreiter & Schmidhuber 1997; Gers et al. 2000; torch.nn.LSTM)."""
    w_ih, w_hh, b_ih, b_hh = weights
    h, c = state
    i, f, g, o = np.split(w_ih @ x + b_ih + w_hh @ h + b_hh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(weights: Weights, x: Array, state: State) -> State:
    """h' = (1 - z) n + z h (Cho et al. 2014, in the form of torch.nn.GRU, which resets after the product with h)."""
    w_ih, w_hh, b_ih, b_hh = weights
    (h,) = state
    x_r, x_z, x_n = np.split(w_ih @ x + b_ih, 3)
    h_r, h_z, h_n = np.split(w_hh @ h + b_hh, 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


Step = Callable[[Weights, Array, State], State]

STEPS: dict[str, Step] = {"rnn": rnn_step, "relu_rnn": relu_rnn_step, "lstm": lstm_step, "gru": gru_step}


def run(step: Step, weights: Weights, tokens: Array, state: State) -> Array:
    """Read a review token by token: tokens (time, input), the state before the first -> states h, (time, hidden)."""
    states = []
    for x in tokens:
        state = step(weights, x, state)
        states.append(state[0])
    return np.stack(states)
