"""Pooling of a review's states over its tokens to one vector."""

import ctypes

import torch
from torch import Tensor, nn

from textrnn.model.kernels import layer as compiled
from textrnn.model.kernels.library import load_library


class Pooling(nn.Module):
    """Pool the states of each review, without padding, to one vector.

    Args:
        kind: last: each direction's state after the last token that it reads; mean, max: over the review's tokens;
            max_mean: both, joined.
        bidirectional: Whether the second half of the features belongs to the backward direction.
        implementation: That of the layers: with auto and compiled, our C code finds the largest states on the CPU.

    """

    def __init__(self, kind: str, *, bidirectional: bool, implementation: str = "auto") -> None:
        super().__init__()
        self.kind = kind
        self.bidirectional = bidirectional
        self.implementation = implementation

    def output_size(self, input_size: int) -> int:
        """Features of the pooled review, for states of `input_size` features."""
        return 2 * input_size if self.kind == "max_mean" else input_size

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool over time.

        Args:
            states: (batch, time, features), 0 after a review's last token.
            lengths: (batch,) int64, each from 1 to time.

        Returns:
            (batch, output_size(features)).

        """
        if self.kind == "last":
            return self._last(states, lengths)
        if self.kind == "mean":
            return _mean(states, lengths)
        if self.kind == "max":
            return self._max(states, lengths)
        return torch.cat([self._max(states, lengths), _mean(states, lengths)], dim=1)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        steps = states.transpose(0, 1)  # as the layers made them, and as they want their gradient
        final = steps[lengths - 1, torch.arange(len(lengths), device=states.device)]
        if not self.bidirectional:
            return final
        hidden = states.shape[2] // 2
        return torch.cat([final[:, :hidden], steps[0, :, hidden:]], dim=1)

    def _max(self, states: Tensor, lengths: Tensor) -> Tensor:
        if self.implementation in ("auto", "compiled") and compiled.is_available(states):
            steps = states.transpose(0, 1)  # as the layers made them, and as they want their gradient
            return steps.gather(0, find_largest(steps.detach(), lengths).unsqueeze(0)).squeeze(0)
        padding = torch.arange(states.shape[1], device=states.device) >= lengths.unsqueeze(1)
        # max rather than amax: its gradient goes to one place, twice as fast on CPU.
        return states.masked_fill(padding.unsqueeze(2), -torch.inf).max(dim=1).values


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    return states.sum(dim=1) / lengths.unsqueeze(1)


class _Pool(ctypes.Structure):
    """`pool_t` of recurrence/pooling.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "features", "threads")),
        *((name, ctypes.c_void_p) for name in ("lengths", "states", "where")),
    )


def find_largest(steps: Tensor, lengths: Tensor) -> Tensor:
    """Return the token at which each feature of a review is largest (the first of several), with our C code.

    torch would copy all states to mask the padding; with the pooling itself that took an eighth of an evaluation.

    Args:
        steps: (time, batch, features), for which `compiled.is_available`.
        lengths: (batch,) int64, each from 1 to time; not checked here.

    Returns:
        (batch, features) int64.

    """
    _, batch, features = steps.shape
    steps, lengths = steps.contiguous(), lengths.contiguous()
    where = torch.empty(batch, features, dtype=torch.int64)
    pool = _Pool(
        batch=batch,
        features=features,
        threads=torch.get_num_threads(),
        lengths=lengths.data_ptr(),
        states=steps.data_ptr(),
        where=where.data_ptr(),
    )
    library = load_library(compiled.REALS[steps.dtype])
    assert library is not None, "is_available has said so"
    library.find_largest(ctypes.byref(pool))
    return where
