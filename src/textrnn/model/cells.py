"""The recurrence of one layer: four implementations of the same numbers, over the same parameters.

Reviews of a batch have different lengths. All implementations read exactly a review's own tokens, whatever the padding:
`compiled` runs our own C code on the processor, `fused` torch's kernels on the padded batch, `packed` the same on a
packed one, `reference` spells the equations out. Inside this file tensors are time-major, (time, batch, features), the
order in which the kernels walk through memory; `RecurrentLayer` takes and gives batch first.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from textrnn.errors import InputError
from textrnn.model import compiled

KERNELS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
"""Gates of a cell: how many (hidden, ·) matrices torch stacks in one weight."""
LSTM_FORGET_GATE = 1
"""Place of the forget gate in torch's order input, forget, cell, output."""

State = tuple[Tensor, ...]
"""What a cell carries from token to token, each (batch, hidden): (h,) for rnn and gru, (h, c) for lstm."""


class Direction(nn.Module):
    """The parameters of one layer in one reading direction.

    `kernel` is torch's own module with one layer and one direction; `initial` holds a learned initial state, one
    vector (hidden,) for each part of the cell's state, and is empty where the state starts from zeros.
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int, *, initial_state: str) -> None:
        super().__init__()
        self.cell = cell
        self.kernel = KERNELS[cell](input_size, hidden_size)
        parts = {"zeros": 0, "learned": 2 if cell == "lstm" else 1}[initial_state]
        self.initial = nn.ParameterList(nn.Parameter(torch.zeros(hidden_size)) for _ in range(parts))

    @property
    def weights(self) -> list[nn.Parameter]:
        """W_ih (gates * hidden, input), W_hh (gates * hidden, hidden), b_ih and b_hh (gates * hidden,)."""
        return self.kernel.all_weights[0]

    def initial_state(self, batch: int) -> State:
        """The state before the first token, each part (batch, hidden)."""
        if len(self.initial) > 0:
            return tuple(vector.expand(batch, -1) for vector in self.initial)
        zeros = self.weights[0].new_zeros(batch, self.kernel.hidden_size)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def run_kernel(self, steps: Any, batch: int) -> Any:
        """Outputs of torch's kernel on `steps`: (time, batch, input), or a PackedSequence of `batch` reviews."""
        if len(self.initial) == 0:
            return self.kernel(steps)[0]
        # The kernels want (layers, batch, hidden), and cuDNN wants it contiguous.
        state = [part.unsqueeze(0).contiguous() for part in self.initial_state(batch)]
        return self.kernel(steps, tuple(state) if self.cell == "lstm" else state[0])[0]

    @torch.no_grad()
    def initialise(self, recurrent_init: str, forget_bias: float) -> None:
        """Draw the weights from torch's default generator.

        Recurrent weights: each gate's matrix orthogonal (Saxe et al. 2014), or all uniform in +-1/sqrt(hidden).
        Input weights: each gate's matrix Glorot-uniform (Glorot & Bengio 2010). Biases: 0, but the LSTM's forget gate
        has `forget_bias` in total (Jozefowicz et al. 2015); torch adds two biases, of which one carries it.
        """
        (weight_ih, weight_hh, bias_ih, bias_hh), gates = self.weights, GATES[self.cell]
        bound = 1 / math.sqrt(self.kernel.hidden_size)
        for gate in weight_hh.chunk(gates):
            if recurrent_init == "orthogonal":
                nn.init.orthogonal_(gate)
            else:
                nn.init.uniform_(gate, -bound, bound)
        for gate in weight_ih.chunk(gates):
            nn.init.xavier_uniform_(gate)
        nn.init.zeros_(bias_ih)
        nn.init.zeros_(bias_hh)
        if self.cell == "lstm":
            bias_ih.chunk(gates)[LSTM_FORGET_GATE].fill_(forget_bias)


class _Reverse(torch.autograd.Function):
    """Reorders each review's steps by a permutation that is its own inverse, and therefore its own gradient.

    Autograd's gradient of a gather would scatter-add, which is slower and, on GPUs, in no fixed order.
    """

    @staticmethod
    def forward(ctx: Any, steps: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return steps[index, torch.arange(steps.shape[1], device=steps.device)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _reorder(gradients[0], index), None


def _reorder(steps: Tensor, index: Tensor) -> Tensor:
    # torch leaves `Function.apply` untyped.
    reordered: Tensor = _Reverse.apply(steps, index)  # type: ignore[no-untyped-call]
    return reordered


def reverse_by_length(steps: Tensor, lengths: Tensor) -> Tensor:
    """Turn each review round within its own length: step t becomes step l-1-t, padding stays where it is.

    Args:
        steps: (time, batch, features).
        lengths: (batch,) int64.

    """
    time = torch.arange(steps.shape[0], device=steps.device).unsqueeze(1)
    return _reorder(steps, torch.where(time < lengths, lengths - 1 - time, time))


def run_fused(direction: Direction, steps: Tensor, lengths: Tensor, backward: bool) -> Tensor:
    """Torch's kernel on the padded batch, exact because padding comes after a review's last token.

    For the backward direction each review is reversed within its own length, so that its padding still comes last.
    Nothing here waits for the device. steps (time, batch, input) -> outputs (time, batch, hidden), padding 0.
    """
    if backward:
        steps = reverse_by_length(steps, lengths)
    outputs: Tensor = direction.run_kernel(steps, steps.shape[1])
    if backward:
        outputs = reverse_by_length(outputs, lengths)
    padding = torch.arange(steps.shape[0], device=steps.device).unsqueeze(1) >= lengths
    return outputs.masked_fill(padding.unsqueeze(2), 0.0)


def run_packed(direction: Direction, steps: Tensor, lengths: Tensor, backward: bool) -> Tensor:
    """Torch's kernel on a PackedSequence; waits for the device, as packing needs the lengths on the host."""
    if backward:
        steps = reverse_by_length(steps, lengths)
    packed = pack_padded_sequence(steps, lengths.cpu(), enforce_sorted=False)
    outputs, _ = pad_packed_sequence(direction.run_kernel(packed, steps.shape[1]), total_length=steps.shape[0])
    return reverse_by_length(outputs, lengths) if backward else outputs


def run_reference(direction: Direction, steps: Tensor, lengths: Tensor, backward: bool) -> Tensor:
    """The equations, one step at a time; before and after a review's own tokens its state stands still."""
    step, time = STEPS[direction.cell], range(steps.shape[0])
    state = direction.initial_state(steps.shape[1])
    outputs = [steps.new_empty(0)] * steps.shape[0]
    for t in reversed(time) if backward else time:
        inside = (t < lengths).unsqueeze(1)
        new_state = step(direction.weights, steps[t], state)
        state = tuple(torch.where(inside, new, old) for new, old in zip(new_state, state, strict=True))
        outputs[t] = torch.where(inside, state[0], torch.zeros_like(state[0]))
    return torch.stack(outputs)


def rnn_step(weights: list[nn.Parameter], x: Tensor, state: State) -> State:
    """One step of an Elman cell, the equation of torch.nn.RNN's documentation. x: (batch, input)."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    (h,) = state
    return (torch.tanh(linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)),)


def lstm_step(weights: list[nn.Parameter], x: Tensor, state: State) -> State:
    """One step of an LSTM cell, the equations of torch.nn.LSTM's documentation. x: (batch, input)."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    h, c = state
    i, f, g, o = (linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(weights: list[nn.Parameter], x: Tensor, state: State) -> State:
    """One step of a GRU cell, the equations of torch.nn.GRU's documentation. x: (batch, input)."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    (h,) = state
    x_r, x_z, x_n = linear(x, weight_ih, bias_ih).chunk(3, dim=1)
    h_r, h_z, h_n = linear(h, weight_hh, bias_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


STEPS: dict[str, Callable[[list[nn.Parameter], Tensor, State], State]] = {
    "rnn": rnn_step,
    "lstm": lstm_step,
    "gru": gru_step,
}


def run_compiled(directions: Sequence[Direction], steps: Tensor, lengths: Tensor) -> Tensor:
    """Our own C code, both directions at once; shapes as in `IMPLEMENTATIONS`.

    Raises:
        InputError: this machine can't run it: another device than the processor, half precision, no C compiler.

    """
    weights, initial = [direction.weights for direction in directions], [list(each.initial) for each in directions]
    if not compiled.is_available(weights[0][0]):
        raise InputError(
            f"model.implementation=compiled can't run {steps.dtype} on {steps.device.type}: it needs float32 or "
            "float64, the processor and a C compiler; type model.implementation=auto."
        )
    return compiled.run_layer(directions[0].cell, weights, initial, steps, lengths)


def _each_direction(
    run: Callable[[Direction, Tensor, Tensor, bool], Tensor],
) -> Callable[[Sequence[Direction], Tensor, Tensor], Tensor]:
    """One direction after the other, the second one reading backwards."""

    def run_all(directions: Sequence[Direction], steps: Tensor, lengths: Tensor) -> Tensor:
        outputs = [run(direction, steps, lengths, index == 1) for index, direction in enumerate(directions)]
        return torch.cat(outputs, dim=2)

    return run_all


IMPLEMENTATIONS: dict[str, Callable[[Sequence[Direction], Tensor, Tensor], Tensor]] = {
    "compiled": run_compiled,
    "fused": _each_direction(run_fused),
    "packed": _each_direction(run_packed),
    "reference": _each_direction(run_reference),
}
"""(directions, steps (time, batch, input), lengths (batch,)) -> outputs (time, batch, directions * hidden), which
are 0 after a review's last token."""


def choose_implementation(name: str, cell: str, like: Tensor) -> str:
    """The implementation that `model.implementation` stands for, for weights like `like`; docs/speed.md has figures.

    On GPUs cuDNN is the fastest. On the processor our C code is, where it could be compiled; only for an LSTM under
    autocast torch has a kernel (oneDNN's) whose recurrence too runs in half precision.
    """
    if name != "auto":
        return name
    if cell == "lstm" and torch.is_autocast_enabled("cpu"):
        return "fused"
    return "compiled" if compiled.is_available(like) else "fused"


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one or both reading directions; the parameters don't depend on the implementation.

    Args:
        cell: rnn, lstm or gru.
        input_size: Features of a step.
        hidden_size: Units of one direction.
        bidirectional: Whether reviews are also read from the last token to the first.
        implementation: auto, compiled, fused, packed or reference.
        initial_state: zeros or learned.

    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool,
        implementation: str = "auto",
        initial_state: str = "zeros",
    ) -> None:
        super().__init__()
        self.cell = cell
        self.implementation = implementation
        self.directions = nn.ModuleList(
            Direction(cell, input_size, hidden_size, initial_state=initial_state) for _ in range(1 + bidirectional)
        )

    def initialise(self, recurrent_init: str, forget_bias: float) -> None:
        """Draw all weights; see `Direction.initialise`."""
        for direction in self.directions:
            assert isinstance(direction, Direction)
            direction.initialise(recurrent_init, forget_bias)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """States after each token of each review.

        Args:
            inputs: (batch, time, input); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.

        Returns:
            (batch, time, directions * hidden), the forward direction first; 0 after a review's last token.

        """
        # A ModuleList gives back plain modules, as far as types know.
        directions: list[Direction] = list(self.directions)  # type: ignore[arg-type]
        run = IMPLEMENTATIONS[choose_implementation(self.implementation, self.cell, directions[0].weights[0])]
        return run(directions, inputs.transpose(0, 1), lengths).transpose(0, 1)
