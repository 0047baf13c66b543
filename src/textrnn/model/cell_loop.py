"""The recurrence as a loop that can be read: the cells' equations on a batch, token by token.

The same equations as in `equations.py`, whose docstring says how weights are stacked. Two things don't have to be done
token by token, and take half of the time as one product over all tokens: what a token asks of the input weights, before
the loop, and in the backward pass the gradient of the recurrent weights. Tensors are time-major, (time, batch,
features).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from textrnn.model.cells import Direction, State

CellStep = Callable[[int, State], State]
"""(a token's place in time, the state before it) -> the state after it."""


def run_cell(direction: Direction, steps: Tensor, lengths: Tensor, state: State, backward: bool) -> Tensor:
    """A loop over time; before and after a review's own tokens its state stands still.

    steps (time, batch, input) -> outputs (time, batch, hidden), padding 0.
    """
    time, batch, _ = steps.shape
    state = state or direction.zero_state(batch)
    outputs, before = [state[0]] * time, [state[0]] * time
    step = _STEPS[direction.cell](direction, steps, before)
    inside = (torch.arange(time, device=steps.device).unsqueeze(1) < lengths).unsqueeze(2)
    whole = inside.all(dim=1).flatten().tolist()  # steps that all reviews have, where nothing needs a choice
    for t in reversed(range(time)) if backward else range(time):
        before[t] = state[0].detach()
        new_state = step(t, state)
        if whole[t]:
            outputs[t], state = new_state[0], new_state
        else:
            state = tuple(torch.where(inside[t], new, old) for new, old in zip(new_state, state, strict=True))
            outputs[t] = torch.where(inside[t], state[0], 0.0)
    return torch.stack(outputs)


class _RecurrentWeight(torch.autograd.Function):
    """What W_hh h is added to, at every token, as it is; in the backward pass W_hh gets its gradient here.

    A sum's gradient is that of both its parts: of W_hh h too, and so W_hh's is its product with the states h. The loop
    puts them into `before`, and computes with a W_hh that is detached.
    """

    @staticmethod
    def forward(ctx: Any, added: Tensor, weight_hh: Tensor, before: list[Tensor]) -> Tensor:
        ctx.before, ctx.dtype = before, weight_hh.dtype
        return added.view_as(added)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        of_sums = gradients[0].flatten(0, 1).to(ctx.dtype)
        return gradients[0], of_sums.T @ torch.stack(ctx.before).flatten(0, 1).to(ctx.dtype), None


def _recurrence(added: Tensor, direction: Direction, before: list[Tensor]) -> Callable[[int, Tensor], Tensor]:
    """`added` (time, batch, gates * hidden) -> a function of t and h: added[t] + W_hh h, (batch, gates * hidden)."""
    weight_hh = direction.weights[1]
    # torch leaves `Function.apply` untyped.
    tokens: tuple[Tensor, ...] = _RecurrentWeight.apply(added, weight_hh, before).unbind()  # type: ignore[no-untyped-call]
    transposed = weight_hh.detach().T
    return lambda t, h: torch.addmm(tokens[t], h, transposed)


def _rnn(direction: Direction, steps: Tensor, before: list[Tensor]) -> CellStep:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, ...)."""
    weight_ih, _, *biases = direction.weights
    recurrence = _recurrence(linear(steps, weight_ih, _sum(biases)), direction, before)
    activation = torch.relu if direction.relu else torch.tanh
    return lambda t, state: (activation(recurrence(t, state[0])),)


def _lstm(direction: Direction, steps: Tensor, before: list[Tensor]) -> CellStep:
    """c' = f c + i g, h' = o tanh(c')."""
    weight_ih, _, *biases = direction.weights
    recurrence = _recurrence(linear(steps, weight_ih, _sum(biases)), direction, before)

    def step(t: int, state: State) -> State:
        h, c = state
        i, f, g, o = recurrence(t, h).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    return step


def _gru(direction: Direction, steps: Tensor, before: list[Tensor]) -> CellStep:
    """h' = (1 - z) n + z h, with b_hh behind the reset gate r."""
    weight_ih, _, bias_ih, bias_hh = direction.weights_and_biases
    inputs = linear(steps, weight_ih, bias_ih).unbind()
    recurrence = _recurrence(bias_hh.expand(*steps.shape[:2], -1), direction, before)

    def step(t: int, state: State) -> State:
        (h,) = state
        x_r, x_z, x_n = inputs[t].chunk(3, dim=1)
        h_r, h_z, h_n = recurrence(t, h).chunk(3, dim=1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return ((1 - z) * n + z * h,)

    return step


def _sum(biases: Sequence[Tensor]) -> Tensor | None:
    return biases[0] + biases[1] if biases else None


_STEPS: dict[str, Callable[[Direction, Tensor, list[Tensor]], CellStep]] = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}
