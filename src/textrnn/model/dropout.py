"""Dropout (Srivastava et al. 2014) with cheap random bits on the CPU."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Resolution of a probability: 16 random bits decide whether a component is dropped."""


class Dropout(nn.Module):
    """Zero components with a probability and scale the others, in training.

    Like `torch.nn.Dropout`, but on the CPU four components share one 64-bit random number. torch draws one for each
    component, which took a fifth of a small network's step. The probability is rounded to 1/65536 and the scale is that
    of the rounded probability, so the mean is preserved.

    Args:
        probability: From 0 to 1, below 1.
        shared: The dimension along which all components are dropped together; None: each on its own. Shared over time
            it is the variational dropout of Gal & Ghahramani (2016), and `dropout=` of Keras' recurrent layers.

    """

    def __init__(self, probability: float, *, shared: int | None = None) -> None:
        super().__init__()
        self.probability = probability
        self.shared = shared

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop components of `inputs`, of any shape; the result has the same shape."""
        if not self.training or self.probability == 0:
            return inputs
        masked = inputs if self.shared is None else inputs.detach().narrow(self.shared, 0, 1)
        if inputs.device.type == "cpu":
            return inputs * dropout_mask(masked, self.probability)
        if self.shared is None:
            return nn.functional.dropout(inputs, self.probability)
        return inputs * nn.functional.dropout(torch.ones_like(masked), self.probability)

    def extra_repr(self) -> str:
        """The probability, for `print(model)`."""
        return f"probability={self.probability}" + ("" if self.shared is None else f", shared={self.shared}")


def dropout_mask(like: Tensor, probability: float) -> Tensor:
    """Return 0 with `probability`, else the scale that keeps the mean; shape and type of `like`, drawn on the CPU."""
    dropped = min(round(probability * LEVELS), LEVELS - 1)
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    draws = bits.view(torch.int16)[: like.numel()]  # uniform from -32768 to 32767
    kept = (draws >= dropped - LEVELS // 2).view(like.shape)
    return kept.to(like.dtype).mul_(LEVELS / (LEVELS - dropped))


@contextlib.contextmanager
def repeated_draws(device: torch.device) -> Iterator[None]:
    """Let torch's generators continue afterwards as if nothing had been drawn inside: the next pass draws the same."""
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        yield
