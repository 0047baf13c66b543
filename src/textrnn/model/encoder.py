"""From token vectors to one vector a review: recurrent layers on top of each other, then pooling over the tokens."""

import torch
from torch import Tensor, nn

from textrnn.config import ModelConfig
from textrnn.model.cells import RecurrentLayer
from textrnn.model.dropout import Dropout


class Encoder(nn.Module):
    """Recurrent layers with dropout between them.

    Args:
        config: The model; its embedding's size is the first layer's input.

    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.output_size = config.hidden_size * (1 + config.bidirectional)
        sizes = [config.embedding.size] + [self.output_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList()
        for size in sizes:
            layer = RecurrentLayer(
                config.cell,
                size,
                config.hidden_size,
                bidirectional=config.bidirectional,
                implementation=config.implementation,
                initial_state=config.initial_state,
            )
            layer.initialise(config.recurrent_init, config.forget_bias)
            self.layers.append(layer)
        self.dropout = Dropout(config.dropout)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """States of the last layer.

        Args:
            inputs: (batch, time, embedding size); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.

        Returns:
            (batch, time, output_size), the forward direction first; 0 after a review's last token.

        """
        outputs = inputs
        for index, layer in enumerate(self.layers):
            outputs = layer(outputs if index == 0 else self.dropout(outputs), lengths)
        return outputs


class Pooling(nn.Module):
    """One vector a review out of its states, untouched by padding.

    Args:
        kind: last: each direction's state after the last token that it reads; mean, max: over the review's tokens;
            max_mean: both, joined.
        bidirectional: Whether the second half of the features belongs to the backward direction.

    """

    def __init__(self, kind: str, *, bidirectional: bool) -> None:
        super().__init__()
        self.kind = kind
        self.bidirectional = bidirectional

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
            return _max(states, lengths)
        return torch.cat([_max(states, lengths), _mean(states, lengths)], dim=1)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        final = states[torch.arange(len(lengths), device=states.device), lengths - 1]
        if not self.bidirectional:
            return final
        hidden = states.shape[2] // 2
        return torch.cat([final[:, :hidden], states[:, 0, hidden:]], dim=1)


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    return states.sum(dim=1) / lengths.unsqueeze(1)


def _max(states: Tensor, lengths: Tensor) -> Tensor:
    padding = torch.arange(states.shape[1], device=states.device) >= lengths.unsqueeze(1)
    # max rather than amax: its gradient goes to one place, twice as fast on CPU.
    return states.masked_fill(padding.unsqueeze(2), -torch.inf).max(dim=1).values
