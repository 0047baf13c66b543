"""The parameters of a recurrent layer in one direction: weights, initial state and their initialization."""

import math
from typing import Any

import torch
from torch import Tensor, nn

KERNELS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
"""Gates of a cell: the number of (hidden, ·) matrices that torch stacks in one weight; see `equations.py`."""
LSTM_FORGET_GATE = 1
"""Index of the forget gate in torch's order input, forget, cell, output."""

State = tuple[Tensor, ...]
"""State of a cell, each part (batch, hidden): (h,) for rnn and gru, (h, c) for lstm."""


class Direction(nn.Module):
    """The parameters of one layer in one direction.

    `kernel` is torch's own module with one layer and one direction; `initial` holds a learned initial state, one
    vector (hidden,) for each part of the cell's state, and is empty where the state starts from zeros.

    Raises:
        ValueError: `all_weights` of the module has another layout than torch's.
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, *, initial_state: str, nonlinearity: str, bias: bool
    ) -> None:
        super().__init__()
        self.cell = cell
        self.relu = nonlinearity == "relu"
        of_rnn: dict[str, Any] = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
        self.kernel = KERNELS[cell](input_size, hidden_size, bias=bias, **of_rnn)
        parts = {"zeros": 0, "learned": 2 if cell == "lstm" else 1}[initial_state]
        self.initial = nn.ParameterList(nn.Parameter(torch.zeros(hidden_size)) for _ in range(parts))
        rows = GATES[cell] * hidden_size
        layouts = [[(rows, input_size), (of_hh, hidden_size), *[(rows,)] * (2 * bias)] for of_hh in (rows, 0)]
        if [tuple(weight.shape) for weight in self.weights] not in layouts:
            raise ValueError(
                f"{cell}: all_weights must be [[W_ih, W_hh{', b_ih, b_hh' * bias}]], of the shapes {layouts[0]}; for "
                f"a part that the cell lacks register a buffer: (0, {hidden_size}) for W_hh, zeros for a bias."
            )

    @property
    def weights(self) -> list[Tensor]:
        """W_ih (gates * hidden, input), W_hh (gates * hidden, hidden); with biases b_ih and b_hh (gates * hidden,)."""
        return [*self.kernel.all_weights[0]]

    @property
    def weights_and_biases(self) -> list[Tensor]:
        """As `weights`, with zeros for missing biases."""
        weights = self.weights
        zeros = weights[0].new_zeros(weights[0].shape[0])
        return weights if len(weights) == 4 else [*weights, zeros, zeros]

    def learned_state(self, batch: int) -> State:
        """The learned state before the first token, each part (batch, hidden); empty where it starts from zeros."""
        return tuple(vector.expand(batch, -1) for vector in self.initial)

    def zero_state(self, batch: int) -> State:
        """Zeros, each part (batch, hidden)."""
        zeros = self.weights[0].new_zeros(batch, self.kernel.hidden_size)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def run_kernel(self, steps: Any, state: State) -> Any:
        """Outputs of torch's kernel on `steps`, (time, batch, input) or a PackedSequence; an empty state is zeros."""
        if not state:
            return self.kernel(steps)[0]
        # The kernels want (layers, batch, hidden), and cuDNN wants it contiguous.
        parts = [part.unsqueeze(0).contiguous() for part in state]
        return self.kernel(steps, tuple(parts) if self.cell == "lstm" else parts[0])[0]

    @torch.no_grad()
    def initialize(self, recurrent_init: str, forget_bias: float) -> None:
        """Draw the weights from torch's default generator.

        Recurrent weights: each gate's matrix orthogonal (Saxe et al. 2014), or all uniform in +-1/sqrt(hidden).
        Input weights: each gate's matrix Glorot-uniform (Glorot & Bengio 2010). Biases: 0, but the LSTM's forget gate
        has `forget_bias` in total (Jozefowicz et al. 2015); torch adds two biases, of which one carries it.
        """
        (weight_ih, weight_hh, *biases), gates = self.weights, GATES[self.cell]
        bound = 1 / math.sqrt(self.kernel.hidden_size)
        for gate in weight_hh.chunk(gates):
            if recurrent_init == "orthogonal":
                nn.init.orthogonal_(gate)
            else:
                nn.init.uniform_(gate, -bound, bound)
        for gate in weight_ih.chunk(gates):
            nn.init.xavier_uniform_(gate)
        for bias in biases:
            nn.init.zeros_(bias)
        if biases and self.cell == "lstm":
            biases[0].chunk(gates)[LSTM_FORGET_GATE].fill_(forget_bias)
