"""A recurrent layer through `recurrence/`, our C code: both directions at once, exact for every length.

What can be done for all tokens at once is left to torch: one product makes the gates' inputs of both directions, and
after the backward pass single products make the gradients of all weights. The C code does what must be done token by
token. Tensors are time-major, (time, batch, features).
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from textrnn.model.library import load_library

CELLS = ("rnn", "lstm", "gru")
"""The cells in the order of their numbers in recurrence/steps.h."""
REALS = {torch.float32: "float", torch.float64: "double"}

_Pointer = ctypes.c_void_p


class _Direction(ctypes.Structure):
    """`direction_t` of recurrence/steps.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("backward", "gates_stride", "output_stride")),
        *((name, _Pointer) for name in ("gates", "extra", "output", "grad_output", "packed", "bias")),
        *((name, _Pointer) for name in ("initial_h", "initial_c", "grad_initial_h", "grad_initial_c")),
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


class _Kind(NamedTuple):
    """What is no tensor: the cell, whether an rnn has relu, 1 or 2 directions, autocast's type or None."""

    cell: str
    relu: bool
    directions: int
    product_dtype: torch.dtype | None


def is_available(steps: Tensor) -> bool:
    """Whether this machine has the library for tensors like `steps`."""
    return steps.device.type == "cpu" and steps.dtype in REALS and load_library(REALS[steps.dtype]) is not None


def run_layer(
    cell: str,
    weights: Sequence[Sequence[Tensor]],
    initial: Sequence[Sequence[Tensor]],
    steps: Tensor,
    lengths: Tensor,
    *,
    relu: bool = False,
) -> Tensor:
    """States of a layer after each token.

    Under autocast the products over all tokens are made in its type, the recurrence stays in that of `weights`.

    Args:
        cell: rnn, lstm or gru.
        weights: For each direction, the forward one first: W_ih (gates * hidden, input), W_hh (gates * hidden,
            hidden), b_ih and b_hh (gates * hidden,), with the gates in torch's order.
        initial: For each direction the parts of the state before the first token, each (batch, hidden); empty: zeros.
        steps: (time, batch, input).
        lengths: (batch,) int64, each from 1 to time, which is not checked here.
        relu: Whether an rnn's units are max(0, x) instead of tanh(x).

    Returns:
        (time, batch, directions * hidden); 0 after a review's last token.

    """
    product_dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    parts = [tensor for direction in (*weights, *initial) for tensor in direction]
    kind = _Kind(cell, relu, len(weights), product_dtype)
    with torch.autocast("cpu", enabled=False):
        # torch leaves `Function.apply` untyped.
        outputs: Tensor = CompiledLayer.apply(kind, lengths, steps, *parts)  # type: ignore[no-untyped-call]
    return outputs


class CompiledLayer(torch.autograd.Function):
    """One layer. Its gradient can be taken once: the gates are overwritten with their gradients."""

    @staticmethod
    def forward(ctx: Any, kind: _Kind, lengths: Tensor, steps: Tensor, *parts: Tensor) -> Tensor:
        """States; shapes as in `run_layer`, whose `weights` and `initial` are `parts`, direction by direction."""
        work = _Work(kind, lengths, parts)
        keep = any(ctx.needs_input_grad)
        outputs = work.forward(steps, keep=keep)
        if keep:
            ctx.work = work
            ctx.save_for_backward(steps, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `steps` and `parts`, from those of the states."""
        work, ctx.work = ctx.work, None
        if work is None:
            raise RuntimeError("a compiled layer's gradient can be taken once; use model.implementation=fused")
        steps, outputs = ctx.saved_tensors
        return None, None, *work.backward(steps, outputs, gradients[0], wants_steps=ctx.needs_input_grad[2])


class _Work:
    """What a pass through one layer needs besides its input and output.

    Attributes:
        gates: (time * batch, directions * gates * hidden): the gates' inputs, then their activations, then gradients.
        extra: For each direction (time * batch, hidden): gru, W_hn h + b_hn, then its gradient; lstm, the state c.

    """

    def __init__(self, kind: _Kind, lengths: Tensor, parts: Sequence[Tensor]) -> None:
        self.cell, self.relu, directions, self.product_dtype = kind
        self.lengths = lengths.contiguous()
        self.order = torch.argsort(lengths, descending=True)
        self.weights = [parts[4 * index : 4 * index + 4] for index in range(directions)]
        initial, each = parts[4 * directions :], (len(parts) - 4 * directions) // directions
        self.initial = [initial[each * index : each * index + each] for index in range(directions)]
        self.hidden = self.weights[0][1].shape[1]
        self.width = self.weights[0][1].shape[0]
        """Columns of one direction's gates: gates * hidden."""
        self.gates = self.extra = torch.empty(0)
        library = load_library(REALS[parts[0].dtype])
        assert library is not None, "is_available has said so"
        self.library = library

    def forward(self, steps: Tensor, *, keep: bool) -> Tensor:
        """States, (time, batch, directions * hidden)."""
        time, batch, _ = steps.shape
        weight_ih = torch.cat([weights[0] for weights in self.weights])
        bias = torch.cat([self._input_bias(weights) for weights in self.weights])
        tokens = steps.reshape(time * batch, -1).to(weight_ih.dtype)
        self.gates = self._product(tokens, weight_ih.T, bias)
        outputs = tokens.new_empty(time, batch, len(self.weights) * self.hidden)
        if keep and self.cell != "rnn":
            self.extra = tokens.new_empty(len(self.weights), time * batch, self.hidden)
        packed = [self._pack_forward(weights[1]) for weights in self.weights]
        self._run(outputs, packed, keep=keep)
        return outputs

    def backward(
        self, steps: Tensor, outputs: Tensor, grad_outputs: Tensor, *, wants_steps: bool
    ) -> Iterator[Tensor | None]:
        """Gradients of the steps and of all parts, in their order."""
        grad_initial = [[outputs.new_empty(steps.shape[1], self.hidden) for _ in parts] for parts in self.initial]
        packed = [self._pack_backward(weights[1]) for weights in self.weights]
        self._run(outputs, packed, grad_outputs=grad_outputs.contiguous(), grad_initial=grad_initial)
        weight_ih = torch.cat([weights[0] for weights in self.weights])
        yield self._product(self.gates, weight_ih).view(steps.shape) if wants_steps else None
        grad_weights_ih = self._product(self.gates.T, steps.reshape(self.gates.shape[0], -1)).chunk(len(self.weights))
        grad_biases_ih = self.gates.sum(0).chunk(len(self.weights))
        for index, (grad_weight_ih, grad_bias_ih) in enumerate(zip(grad_weights_ih, grad_biases_ih, strict=True)):
            yield from (grad_weight_ih, self._grad_weight_hh(index, outputs), grad_bias_ih)
            if self.cell == "gru":
                yield torch.cat([grad_bias_ih[: 2 * self.hidden], self.extra[index].sum(0)])
            else:
                yield grad_bias_ih
        for parts in grad_initial:
            yield from parts

    def _grad_weight_hh(self, index: int, outputs: Tensor) -> Tensor:
        """Gradient of W_hh: each token's gates times the state before it, which is its neighbour's output."""
        time, batch, _ = outputs.shape
        mine = outputs.view(time * batch, -1)[:, index * self.hidden : (index + 1) * self.hidden]
        later, earlier = slice(batch, None), slice(None, (time - 1) * batch)
        reads, states = (later, earlier) if index == 0 else (earlier, later)
        gates = self._recurrent_gates(index)
        gradient = torch.cat([self._product(part[reads].T, mine[states]) for part in gates])
        if self.initial[index]:
            first = torch.arange(batch) if index == 0 else (self.lengths - 1) * batch + torch.arange(batch)
            gradient += torch.cat([part[first] for part in gates], dim=1).T @ self.initial[index][0]
        return gradient

    def _gates_of(self, index: int) -> Tensor:
        """One direction's columns of `gates`."""
        return self.gates[:, index * self.width : (index + 1) * self.width]

    def _recurrent_gates(self, index: int) -> list[Tensor]:
        """The gradients that belong to W_hh's product: `gates`, but a GRU's n has its own behind the reset gate."""
        gates = self._gates_of(index)
        return [gates[:, : 2 * self.hidden], self.extra[index]] if self.cell == "gru" else [gates]

    def _input_bias(self, weights: Sequence[Tensor]) -> Tensor:
        """What is added for all tokens at once: both biases, but a GRU's n keeps its recurrent one for the C code."""
        bias_ih, bias_hh = weights[2], weights[3].clone()
        if self.cell == "gru":
            bias_hh[2 * self.hidden :] = 0
        return bias_ih + bias_hh

    def _product(self, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
        """left @ right + bias in autocast's type, if there is one; the result in the recurrence's."""
        low = self.product_dtype
        if low is None or left.dtype == torch.float64:
            return left @ right if bias is None else torch.addmm(bias, left, right)
        product = (left.to(low) @ right.to(low)).to(left.dtype)
        return product if bias is None else product.add_(bias)

    def _pack_forward(self, weight: Tensor) -> Tensor:
        """W_hh as [block of units][unit of the previous state][gate][lane]; see recurrence/recurrence.c."""
        gates, (blocks, length) = self.width // self.hidden, self._blocks()
        width = self.library.forward_width(CELLS.index(self.cell)) if gates == 1 else 1  # blocks side by side
        panels = -(-blocks // width)
        padded = self._padded(weight, panels * width * length, blocks * length)
        split = padded.view(gates, panels, width, length, blocks * length)
        return split.permute(1, 4, 0, 2, 3).contiguous()

    def _pack_backward(self, weight: Tensor) -> Tensor:
        """W_hh as [blocks of units of the previous state][gate's unit][block][lane]; see recurrence/recurrence.c."""
        gates, (blocks, length) = self.width // self.hidden, self._blocks()
        width = self.library.backward_width(CELLS.index(self.cell))
        panels = -(-blocks // width)
        padded = self._padded(weight, blocks * length, panels * width * length)
        return padded.view(gates * blocks * length, panels, width, length).permute(1, 0, 2, 3).contiguous()

    def _blocks(self) -> tuple[int, int]:
        """Vectors that hold the units of one gate, and units of a vector."""
        length = self.library.vector_length()
        return -(-self.hidden // length), length

    def _padded(self, weight: Tensor, rows: int, columns: int) -> Tensor:
        """W_hh as (gates, rows, columns), with zeros for the units that there are not."""
        padded = weight.new_zeros(self.width // self.hidden, rows, columns)
        padded[:, : self.hidden, : self.hidden] = weight.view(-1, self.hidden, self.hidden)
        return padded

    def _run(
        self,
        outputs: Tensor,
        packed: Sequence[Tensor],
        *,
        keep: bool = True,
        grad_outputs: Tensor | None = None,
        grad_initial: Sequence[Sequence[Tensor]] | None = None,
    ) -> None:
        """One pass of the C code: forward, or with `grad_outputs` backward."""
        time, batch, _ = outputs.shape
        directions = (_Direction * len(self.weights))()
        # What a pointer points at must live until the call is over.
        biases = [weights[3][2 * self.hidden :].contiguous() for weights in self.weights] if self.cell == "gru" else []
        initial = [[part.contiguous() for part in parts] for parts in self.initial]
        for index, direction in enumerate(directions):
            direction.backward = index
            direction.gates_stride, direction.output_stride = self.gates.shape[1], outputs.shape[2]
            direction.gates = _pointer(self.gates, index * self.width)
            direction.output = _pointer(outputs, index * self.hidden)
            direction.packed = packed[index].data_ptr()
            direction.extra = self.extra[index].data_ptr() if len(self.extra) > 0 else None
            direction.bias = biases[index].data_ptr() if biases else None
            direction.initial_h, direction.initial_c = _pointers(initial[index])
            if grad_outputs is not None and grad_initial is not None:
                direction.grad_output = _pointer(grad_outputs, index * self.hidden)
                direction.grad_initial_h, direction.grad_initial_c = _pointers(grad_initial[index])
        problem = _Problem(
            cell=CELLS.index(self.cell),
            time=time,
            batch=batch,
            hidden=self.hidden,
            directions=len(self.weights),
            threads=torch.get_num_threads(),
            relu=self.relu,
            keep=keep,
            lengths=self.lengths.data_ptr(),
            order=self.order.data_ptr(),
            each=directions,
        )
        if self.library.run_pass(ctypes.byref(problem), grad_outputs is not None) != 0:
            raise MemoryError("recurrence.c found no memory for its tiles")


def _pointer(tensor: Tensor, column: int) -> int:
    """Address of a contiguous tensor's column."""
    return tensor.data_ptr() + column * tensor.element_size()


def _pointers(parts: Sequence[Tensor]) -> tuple[int | None, int | None]:
    """Addresses of the state's parts h and c; None where there is none."""
    addresses = [part.data_ptr() for part in parts]
    return (addresses[0] if addresses else None), (addresses[1] if len(addresses) > 1 else None)
