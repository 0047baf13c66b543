"""Dropout (Srivastava et al. 2014) with cheap random bits on the processor."""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Steps of a probability: a component's fate is decided by 16 random bits."""


class Dropout(nn.Module):
    """Zeroes components with a probability and scales the others, in training.

    The same as `torch.nn.Dropout`, but on the processor, where torch draws a 64-bit number for each component and a
    fifth of a small network's step went into it, four components share one. The probability is rounded to 1/65536 and
    the scale is that of the rounded one, so that the mean stays what it was.

    Args:
        probability: From 0 to 1, below 1.
        shared: The dimension along which all components share one fate; None: each has its own. Shared over time it
            is the variational dropout of Gal & Ghahramani (2016), and what `dropout=` of Keras' recurrent layers does.

    """

    def __init__(self, probability: float, *, shared: int | None = None) -> None:
        super().__init__()
        self.probability = probability
        self.shared = shared

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of any shape; the same shape."""
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
    """0 with `probability`, else the scale that keeps the mean; shape and type of `like`, drawn on the processor."""
    dropped = min(round(probability * LEVELS), LEVELS - 1)
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    draws = bits.view(torch.int16)[: like.numel()]  # uniform from -32768 to 32767
    kept = (draws >= dropped - LEVELS // 2).view(like.shape)
    return kept.to(like.dtype).mul_(LEVELS / (LEVELS - dropped))
