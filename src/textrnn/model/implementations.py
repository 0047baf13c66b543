"""The recurrence of one layer: four implementations with the same parameters and the same results.

Reviews of a batch have different lengths. All implementations read exactly a review's own tokens, whatever the padding:
`compiled` runs our C code on the CPU, `fused` torch's kernels on the padded batch, `packed` the same on a packed batch,
`cell` a loop over the tokens with the cells' equations. Tensors are time-major, (time, batch, features), which is the
order in which the kernels read memory.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from textrnn.base.errors import InputError
from textrnn.model.cell_loop import run_cell
from textrnn.model.kernels import layer as compiled
from textrnn.model.kernels.passes import CELLS
from textrnn.model.recurrent import Direction, State


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
    """Reverse each review within its own length l: step t becomes step l-1-t; padding stays where it is.

    Args:
        steps: (time, batch, features).
        lengths: (batch,) int64.

    """
    time = torch.arange(steps.shape[0], device=steps.device).unsqueeze(1)
    return _reorder(steps, torch.where(time < lengths, lengths - 1 - time, time))


def run_fused(direction: Direction, steps: Tensor, lengths: Tensor, state: State, backward: bool) -> Tensor:
    """torch's kernel on the padded batch, exact because padding comes after a review's last token.

    For the backward direction each review is reversed within its own length, so its padding still comes last. Nothing
    here waits for the device. steps (time, batch, input) -> outputs (time, batch, hidden), padding 0.
    """
    if backward:
        steps = reverse_by_length(steps, lengths)
    outputs: Tensor = direction.run_kernel(steps, state)
    if backward:
        outputs = reverse_by_length(outputs, lengths)
    padding = torch.arange(steps.shape[0], device=steps.device).unsqueeze(1) >= lengths
    return outputs.masked_fill(padding.unsqueeze(2), 0.0)


def run_packed(direction: Direction, steps: Tensor, lengths: Tensor, state: State, backward: bool) -> Tensor:
    """torch's kernel on a PackedSequence; waits for the device, as packing needs the lengths on the host."""
    if backward:
        steps = reverse_by_length(steps, lengths)
    packed = pack_padded_sequence(steps, lengths.cpu(), enforce_sorted=False)
    outputs, _ = pad_packed_sequence(direction.run_kernel(packed, state), total_length=steps.shape[0])
    return reverse_by_length(outputs, lengths) if backward else outputs


Runner = Callable[[Sequence[Direction], Tensor, Tensor, Sequence[State]], Tensor]


def _each_direction(run: Callable[[Direction, Tensor, Tensor, State, bool], Tensor]) -> Runner:
    """One direction after the other, the second one reading backwards."""

    def run_all(directions: Sequence[Direction], steps: Tensor, lengths: Tensor, states: Sequence[State]) -> Tensor:
        pairs = enumerate(zip(directions, states, strict=True))
        outputs = [run(direction, steps, lengths, state, index == 1) for index, (direction, state) in pairs]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)

    return run_all


def run_compiled(directions: Sequence[Direction], steps: Tensor, lengths: Tensor, states: Sequence[State]) -> Tensor:
    """Our C code, both directions at once; shapes as in `IMPLEMENTATIONS`.

    Raises:
        ValueError: the lengths don't fit `steps`; the C code would read past its end.

    """
    _check_lengths(lengths, *steps.shape[:2])
    weights = [direction.weights_and_biases for direction in directions]
    return compiled.run_layer(directions[0].cell, weights, states, steps, lengths, relu=directions[0].relu)


def _check_lengths(lengths: Tensor, time: int, batch: int) -> None:
    if tuple(lengths.shape) != (batch,) or lengths.dtype != torch.int64:
        raise ValueError(f"lengths: {tuple(lengths.shape)}, {lengths.dtype}; they must be ({batch},), torch.int64")
    shortest, longest = (int(length) for length in lengths.aminmax()) if batch > 0 else (1, 1)
    if shortest < 1 or longest > time:
        raise ValueError(f"lengths: {shortest} to {longest}; they must be from 1 to the number of steps, {time}")


IMPLEMENTATIONS: dict[str, Runner] = {
    "compiled": run_compiled,
    "fused": _each_direction(run_fused),
    "packed": _each_direction(run_packed),
    "cell": _each_direction(run_cell),
}
"""(directions, steps (time, batch, input), lengths (batch,), each direction's state before the first token, empty for
zeros) -> outputs (time, batch, directions * hidden), which are 0 after a review's last token."""


@cache
def _has_half_lstm(dtype: torch.dtype) -> bool:
    """Return whether torch's LSTM runs under autocast to `dtype` on this CPU: without AVX-512 oneDNN raises an error.

    This runs the kernel with one unit and one token, as torch has no public function for it.
    """
    one = torch.zeros(1, 1, 1)
    weights = [torch.zeros(4, 1)] * 2 + [torch.zeros(4)] * 2
    try:
        with torch.autocast("cpu", dtype=dtype), torch.no_grad():
            torch.lstm(one, (one, one), weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


def check_implementation(name: str, cell: str, like: Tensor, low: torch.dtype | None) -> None:
    """Check that the implementation `name` runs on this machine, for weights like `like` and autocast's type `low`.

    Raises:
        InputError: it doesn't.

    """
    if name != "cell" and cell not in CELLS:
        raise InputError(f"model.implementation={name}: there is no kernel for {cell}; type model.implementation=auto.")
    if name == "compiled" and not compiled.is_available(like):
        raise InputError(
            "model.implementation=compiled needs the CPU, float32 or float64, and a C compiler; type "
            "model.implementation=auto."
        )
    through_torch = name in ("fused", "packed") and cell == "lstm" and like.device.type == "cpu"
    if through_torch and low is not None and not _has_half_lstm(low):
        raise InputError(
            f"model.implementation={name}: torch has no LSTM in mixed precision for a CPU without AVX-512; type "
            "model.implementation=auto or trainer.precision=32-true."
        )


def choose_implementation(name: str, cell: str, like: Tensor) -> str:
    """Return the implementation for `model.implementation` and weights like `like`; docs/speed.md has figures.

    cuDNN is the fastest on GPUs and our C code on CPUs, if it could be compiled. The exception is an LSTM under
    autocast on CPUs where torch's kernel (oneDNN) runs the recurrence, too, in half precision and ours doesn't. A cell
    of your own has no kernel, and runs as the loop over its equations.

    Raises:
        InputError: this machine can't run it.

    """
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    if name != "auto":
        check_implementation(name, cell, like, low)
        return name
    if cell not in CELLS:
        return "cell"
    ours_is_low = low == torch.bfloat16 and compiled.multiplies_bfloat16(like)
    if cell == "lstm" and low is not None and not ours_is_low and _has_half_lstm(low):
        return "fused"
    return "compiled" if compiled.is_available(like) else "fused"
