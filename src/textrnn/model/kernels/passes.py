"""Calls of the C code in `recurrence/`, and the recurrent weights packed in the order in which it reads them."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CELLS = ("rnn", "lstm", "gru")
"""The cells, in the order of their numbers in recurrence/steps.h."""

_Pointer = ctypes.c_void_p


class _Direction(ctypes.Structure):
    """`direction_t` of recurrence/steps.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("backward", "gates_stride", "output_stride")),
        *((name, _Pointer) for name in ("gates", "extra", "output", "grad_output", "packed", "bias")),
        *((name, _Pointer) for name in ("initial_h", "initial_c", "kept_c", "grad_initial_h", "grad_initial_c")),
        ("grad_bias", _Pointer),
    )


class _Problem(ctypes.Structure):
    """`problem_t` of recurrence/steps.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("cell", "time", "batch", "hidden", "directions", "threads")),
        *((name, ctypes.c_int64) for name in ("relu", "keep")),
        ("lengths", _Pointer),
        ("order", _Pointer),
        ("each", ctypes.POINTER(_Direction)),
    )


def run_pass(
    library: Any,
    cell: str,
    outputs: Tensor,
    gates: Tensor,
    extra: Tensor,
    packed: Sequence[Tensor],
    lengths: Tensor,
    order: Tensor,
    *,
    relu: bool,
    keep: bool = True,
    biases: Sequence[Tensor] = (),
    initial: Sequence[Sequence[Tensor]],
    grad_outputs: Tensor | None = None,
    grad_initial: Sequence[Sequence[Tensor]] = (),
    grad_bias: Tensor | None = None,
) -> None:
    """Run one pass over a layer: forward, or with `grad_outputs` backward.

    Args:
        library: From `load_library`, for the types of the tensors; all tensors are contiguous.
        cell: One of `CELLS`.
        outputs: (time, batch, directions * hidden), written by the forward pass, read by the backward pass.
        gates: (time * batch, directions * gates * hidden), overwritten by both.
        extra: (directions, time * batch, hidden), as `gates`; may be empty where the cell or the pass needs none.
        packed: Each direction's recurrent weights, from `pack_forward` or `pack_backward`.
        lengths: (batch,) int64.
        order: (batch,) int64, the rows by decreasing length.
        relu: See `run_layer`.
        keep: Whether the forward pass keeps what the backward pass needs.
        biases: Each direction's, (sums, hidden): one for each gate, for a gru another one for the recurrent part of n,
            which is multiplied by the reset gate. The forward pass needs them.
        initial: Each direction's parts of the state before the first token, each (batch, hidden); empty: zeros.
        grad_outputs: As `outputs`.
        grad_initial: As `initial`, written by the backward pass.
        grad_bias: (directions, tiles, sums, hidden), from `bias_sums`: the gradients of `biases` by each tile, written
            by the backward pass.

    Raises:
        MemoryError: there is no memory for the tiles.

    """
    time, batch, _ = outputs.shape
    directions = (_Direction * len(packed))()
    # The tensors behind the pointers must live until the call returns.
    kept_c = [parts[1].to(gates.dtype) if len(parts) > 1 else None for parts in initial]
    hidden, width = outputs.shape[2] // len(packed), gates.shape[1] // len(packed)
    for index, direction in enumerate(directions):
        direction.backward = index
        direction.gates_stride, direction.output_stride = gates.shape[1], outputs.shape[2]
        direction.gates = _pointer(gates, index * width)
        direction.output = _pointer(outputs, index * hidden)
        direction.packed = packed[index].data_ptr()
        direction.extra = extra[index].data_ptr() if len(extra) > 0 else None
        direction.bias = biases[index].data_ptr() if biases else None
        direction.initial_h, direction.initial_c = _pointers(initial[index])
        if (part := kept_c[index]) is not None:
            direction.kept_c = part.data_ptr()
        if grad_bias is not None:
            direction.grad_bias = grad_bias[index].data_ptr()
        if grad_outputs is not None:
            direction.grad_output = _pointer(grad_outputs, index * hidden)
            direction.grad_initial_h, direction.grad_initial_c = _pointers(grad_initial[index])
    problem = _Problem(
        cell=CELLS.index(cell),
        time=time,
        batch=batch,
        hidden=hidden,
        directions=len(packed),
        threads=torch.get_num_threads(),
        relu=relu,
        keep=keep,
        lengths=lengths.data_ptr(),
        order=order.data_ptr(),
        each=directions,
    )
    if library.run_pass(ctypes.byref(problem), grad_outputs is not None) != 0:
        raise MemoryError("recurrence.c found no memory for its tiles")


def _pointer(tensor: Tensor, column: int) -> int:
    """Return the address of a contiguous tensor's column."""
    return tensor.data_ptr() + column * tensor.element_size()


def _pointers(parts: Sequence[Tensor]) -> tuple[int | None, int | None]:
    """Return the addresses of the state's parts h and c; None for a missing one."""
    addresses = [part.data_ptr() for part in parts]
    return (addresses[0] if addresses else None), (addresses[1] if len(addresses) > 1 else None)


def bias_sums(library: Any, cell: str, outputs: Tensor, directions: int) -> Tensor:
    """(directions, tiles, sums, hidden), uninitialized: for the gradients of `biases` by each tile's tokens."""
    tiles = -(-outputs.shape[1] // library.tile_rows(CELLS.index(cell)))
    return outputs.new_empty(directions, tiles, 1 if cell == "rnn" else 4, outputs.shape[2] // directions)


def pack_forward(library: Any, cell: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """W_hh (gates * hidden, hidden) as [block of units][unit of the previous state][gate][lane]; see recurrence.c.

    In bfloat16 two units of the previous state lie side by side: [block][pair of units][gate][lane][2].
    """
    gates, (blocks, length) = _gates(weight), _blocks(library, weight)
    width = library.forward_width(CELLS.index(cell)) if gates == 1 else 1  # blocks side by side
    panels = -(-blocks // width)
    padded = _padded(weight, panels * width * length, blocks * length)
    split = padded.view(gates, panels, width, length, blocks * length)
    return _in_pairs(split.permute(1, 4, 0, 2, 3), dtype)


def pack_backward(library: Any, cell: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """W_hh as [blocks of units of the previous state][gate's unit][block][lane], or in pairs of gates' units."""
    gates, (blocks, length) = _gates(weight), _blocks(library, weight)
    width = library.backward_width(CELLS.index(cell))
    panels = -(-blocks // width)
    padded = _padded(weight, blocks * length, panels * width * length)
    return _in_pairs(padded.view(gates * blocks * length, panels, width, length).permute(1, 0, 2, 3), dtype)


def _in_pairs(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """(panels, depth, ...) as it is, or for bfloat16 as (panels, depth / 2, ..., 2)."""
    if dtype == torch.bfloat16:
        packed = packed.to(dtype)
        packed = packed.reshape(len(packed), -1, 2, *packed.shape[2:]).movedim(2, -1)
    return packed.contiguous()


def _gates(weight: Tensor) -> int:
    return weight.shape[0] // weight.shape[1]


def _blocks(library: Any, weight: Tensor) -> tuple[int, int]:
    """Return the number of vectors for the units of one gate, and the units of a vector."""
    length = library.vector_length()
    return -(-weight.shape[1] // length), length


def _padded(weight: Tensor, rows: int, columns: int) -> Tensor:
    """W_hh as (gates, rows, columns), padded with zeros."""
    hidden = weight.shape[1]
    padded = weight.new_zeros(_gates(weight), rows, columns)
    padded[:, :hidden, :hidden] = weight.view(-1, hidden, hidden)
    return padded
