"""A recurrent layer through `recurrence/`, our C code: both directions at once, exact for every length.

torch computes what can be done for all tokens at once: the gates' inputs of both directions in one product, and after
the backward pass the gradients of the weights, one product each. The C code computes the steps from token to token.
Tensors are time-major, (time, batch, features).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from textrnn.model.kernels.library import load_library
from textrnn.model.kernels.passes import bias_sums, pack_backward, pack_forward, run_pass

REALS = {torch.float32: "float", torch.float64: "double"}


class _Kind(NamedTuple):
    """Arguments that are not tensors: the cell, whether an rnn has relu, 1 or 2 directions, autocast's type or None."""

    cell: str
    relu: bool
    directions: int
    product_dtype: torch.dtype | None


def is_available(steps: Tensor) -> bool:
    """Return whether this machine has the library for tensors like `steps`."""
    return steps.device.type == "cpu" and steps.dtype in REALS and load_library(REALS[steps.dtype]) is not None


def multiplies_bfloat16(like: Tensor) -> bool:
    """Return whether the recurrence, too, can multiply in bfloat16 for tensors like `like` (AVX-512)."""
    library = load_library("float") if like.device.type == "cpu" and like.dtype == torch.float32 else None
    return library is not None and bool(library.has_low()) and load_library("bfloat16") is not None


def run_layer(
    cell: str,
    weights: Sequence[Sequence[Tensor]],
    initial: Sequence[Sequence[Tensor]],
    steps: Tensor,
    lengths: Tensor,
    *,
    relu: bool = False,
) -> Tensor:
    """Return the states of a layer after each token.

    Under autocast to bfloat16, on a CPU that supports it, the recurrence too multiplies in bfloat16, adds in float32
    and keeps gates in bfloat16 for the backward pass; states stay in float32. On other CPUs, and for other types, only
    the products over all tokens use autocast's type.

    Args:
        cell: rnn, lstm or gru.
        weights: For each direction, the forward one first: W_ih (gates * hidden, input), W_hh (gates * hidden,
            hidden), b_ih and b_hh (gates * hidden,), with the gates in torch's order.
        initial: For each direction the parts of the state before the first token, each (batch, hidden); empty: zeros.
        steps: (time, batch, input).
        lengths: (batch,) int64, each from 1 to time; not checked here.
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
        """Return states; shapes as in `run_layer`. `parts` are its `weights` and `initial`, direction by direction."""
        work = _Work(kind, lengths, parts)
        keep = any(ctx.needs_input_grad)
        tokens = work.tokens(steps)
        outputs = work.forward(tokens, len(steps), keep=keep)
        if keep:
            ctx.work, ctx.steps = work, (steps.shape, steps.dtype)
            ctx.save_for_backward(tokens, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `steps` and `parts`, from those of the states."""
        work, ctx.work = ctx.work, None
        if work is None:
            raise RuntimeError("a compiled layer's gradient can be taken once; use model.implementation=fused")
        tokens, outputs = ctx.saved_tensors
        of_tokens, *of_parts = work.backward(tokens, outputs, gradients[0], wants_tokens=ctx.needs_input_grad[2])
        shape, dtype = ctx.steps
        return None, None, None if of_tokens is None else of_tokens.view(shape).to(dtype), *of_parts


class _Work:
    """Buffers and weights of a pass through one layer.

    Attributes:
        gates: (time * batch, directions * gates * hidden): inputs (no biases), then activations, then gradients.
        extra: For each direction (time * batch, hidden): gru, W_hn h + b_hn, then its gradient; lstm, the state c.
        kept: Type of both.

    """

    def __init__(self, kind: _Kind, lengths: Tensor, parts: Sequence[Tensor]) -> None:
        self.cell, self.relu, directions, self.product_dtype = kind
        self.lengths = lengths.contiguous()
        self.order = torch.argsort(lengths, descending=True)
        self.weights = [parts[4 * index : 4 * index + 4] for index in range(directions)]
        initial, each = parts[4 * directions :], (len(parts) - 4 * directions) // directions
        # Contiguous, as the C code reads them.
        self.initial = [
            [part.contiguous() for part in initial[each * index : each * index + each]] for index in range(directions)
        ]
        self.hidden = self.weights[0][1].shape[1]
        self.width = self.weights[0][1].shape[0]
        """Number of columns of one direction's gates: gates * hidden."""
        self.gates = self.extra = torch.empty(0)
        self.real = parts[0].dtype
        if self.real == torch.float64:
            self.product_dtype = None
        low = self.product_dtype == torch.bfloat16 and multiplies_bfloat16(parts[0])
        self.kept = torch.bfloat16 if low else self.real
        library = load_library("bfloat16" if low else REALS[self.real])
        assert library is not None, "is_available has said so"
        self.library = library

    def tokens(self, steps: Tensor) -> Tensor:
        """(time, batch, input) as (time * batch, input), in the type of the products."""
        return steps.reshape(steps.shape[0] * steps.shape[1], -1).to(self.product_dtype or self.real)

    def forward(self, tokens: Tensor, time: int, *, keep: bool) -> Tensor:
        """States, (time, batch, directions * hidden)."""
        weight_ih = torch.cat([weights[0] for weights in self.weights])
        self.gates = self._product(tokens, weight_ih.T, self.kept)
        batch = len(self.lengths)
        outputs = weight_ih.new_empty(time, batch, len(self.weights) * self.hidden)
        if keep and self.cell != "rnn":
            self.extra = weight_ih.new_empty(len(self.weights), time * batch, self.hidden, dtype=self.kept)
        packed = [pack_forward(self.library, self.cell, weights[1], self.kept) for weights in self.weights]
        self._run(outputs, packed, keep=keep, biases=[self._biases(weights) for weights in self.weights])
        return outputs

    def backward(
        self, tokens: Tensor, outputs: Tensor, grad_outputs: Tensor, *, wants_tokens: bool
    ) -> Iterator[Tensor | None]:
        """Gradients of the tokens and of all parts, in their order."""
        grad_initial = [[torch.empty_like(part) for part in parts] for parts in self.initial]
        packed = [pack_backward(self.library, self.cell, weights[1], self.kept) for weights in self.weights]
        grad_bias = bias_sums(self.library, self.cell, outputs, len(self.weights))
        self._run(
            outputs, packed, grad_outputs=grad_outputs.contiguous(), grad_initial=grad_initial, grad_bias=grad_bias
        )
        weight_ih = torch.cat([weights[0] for weights in self.weights])
        yield self._product(self.gates, weight_ih) if wants_tokens else None
        grad_weights_ih = self._product(self.gates.T, tokens).chunk(len(self.weights))
        grad_biases = grad_bias.sum(1).flatten(1)
        states = outputs.view(len(tokens), -1).to(self.product_dtype or self.real)
        for index, (grad_weight_ih, sums) in enumerate(zip(grad_weights_ih, grad_biases, strict=True)):
            yield from (grad_weight_ih, self._grad_weight_hh(index, states), sums[: self.width])
            # In its own memory: autograd keeps the tensor, and clipping would scale a shared one twice.
            yield torch.cat([sums[: 2 * self.hidden], sums[3 * self.hidden :]]) if self.cell == "gru" else sums.clone()
        for parts in grad_initial:
            yield from parts

    def _grad_weight_hh(self, index: int, states: Tensor) -> Tensor:
        """Gradient of W_hh: each token's gates times the state before it, which is the adjacent token's output."""
        batch = len(self.lengths)
        mine = states[:, index * self.hidden : (index + 1) * self.hidden]
        later, earlier = slice(batch, None), slice(None, len(states) - batch)
        reads, before = (later, earlier) if index == 0 else (earlier, later)
        gates = self._recurrent_gates(index)
        gradient = torch.cat([self._product(part[reads].T, mine[before]) for part in gates])
        if self.initial[index]:
            first = torch.arange(batch) if index == 0 else (self.lengths - 1) * batch + torch.arange(batch)
            of_first = torch.cat([part[first] for part in gates], dim=1).to(self.real)
            gradient += of_first.T @ self.initial[index][0]
        return gradient

    def _recurrent_gates(self, index: int) -> list[Tensor]:
        """The gradients of W_hh's product: `gates`, but for a GRU's n that of W_hn h + b_hn, in `extra`."""
        gates = self.gates[:, index * self.width : (index + 1) * self.width]
        return [gates[:, : 2 * self.hidden], self.extra[index]] if self.cell == "gru" else [gates]

    def _biases(self, weights: Sequence[Tensor]) -> Tensor:
        """The biases as the C code adds them: of each gate both together, but of a gru's n each on its own."""
        bias_ih, bias_hh = weights[2:]
        if self.cell != "gru":
            return bias_ih + bias_hh
        both = 2 * self.hidden
        return torch.cat([bias_ih[:both] + bias_hh[:both], bias_ih[both:], bias_hh[both:]])

    def _product(self, left: Tensor, right: Tensor, kept: torch.dtype | None = None) -> Tensor:
        """left @ right in autocast's type, if there is one; the result in `kept`, or in the parameters'."""
        dtype = self.product_dtype or self.real
        return (left.to(dtype) @ right.to(dtype)).to(kept or self.real)

    def _run(self, outputs: Tensor, packed: Sequence[Tensor], **options: Any) -> None:
        """Run one pass of the C code."""
        run_pass(
            self.library,
            self.cell,
            outputs,
            self.gates,
            self.extra,
            packed,
            self.lengths,
            self.order,
            relu=self.relu,
            initial=self.initial,
            **options,
        )
