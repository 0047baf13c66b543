"""The loop through the cells' equations makes of every token what a loop through torch's own cells makes of it."""

import pytest
import torch
from torch import Tensor, nn

from textrnn.model.cell_loop import run_cell
from textrnn.model.kernels.passes import CELLS
from textrnn.model.recurrent import Direction

INPUT, HIDDEN, TIME, BATCH = 5, 4, 7, 3


def torchs_cell(direction: Direction, bias: bool) -> nn.RNNCellBase:
    """nn.RNNCell, LSTMCell or GRUCell with the direction's weights."""
    made: nn.RNNCellBase
    if direction.cell == "rnn":
        made = nn.RNNCell(INPUT, HIDDEN, bias=bias, nonlinearity="relu" if direction.relu else "tanh")
    else:
        made = (nn.LSTMCell if direction.cell == "lstm" else nn.GRUCell)(INPUT, HIDDEN, bias=bias)
    made = made.double()
    for mine, its in zip(direction.weights, made.parameters(), strict=True):
        its.data.copy_(mine)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
def test_equals_torchs_cells_values_and_gradients(cell: str, bias: bool) -> None:
    torch.manual_seed(0)
    nonlinearity = "relu" if cell == "relu_rnn" else "tanh"
    direction = Direction(
        cell.split("_")[-1], INPUT, HIDDEN, initial_state="zeros", nonlinearity=nonlinearity, bias=bias
    ).double()
    theirs = torchs_cell(direction, bias)
    steps = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)

    state, states = None, []
    for token in steps:
        state = theirs(token, state)
        states.append(state[0] if cell == "lstm" else state)
    expected: Tensor = torch.stack(states)
    outputs = run_cell(direction, steps, torch.full((BATCH,), TIME), (), backward=False)
    torch.testing.assert_close(outputs, expected, atol=1e-14, rtol=0)

    weighted = torch.randn_like(outputs)
    gradients = torch.autograd.grad((outputs * weighted).sum(), direction.weights)
    of_theirs = torch.autograd.grad((expected * weighted).sum(), list(theirs.parameters()))
    for mine, its in zip(gradients, of_theirs, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-13, rtol=0)
