"""From token vectors to one vector a review: recurrent layers on top of each other, then pooling over the tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from textrnn.config import ModelConfig
from textrnn.model.dropout import Dropout
from textrnn.model.layer import RecurrentLayer, check_state


class Encoder(nn.Module):
    """Recurrent layers with dropout between them.

    Its state dict holds torch's own names: `layers.K.directions.0.kernel.weight_ih_l0` is `weight_ih_lK` of a
    `torch.nn.RNN`, `LSTM` or `GRU` of as many layers, `layers.K.directions.1.kernel.weight_ih_l0` its
    `weight_ih_lK_reverse`; so for `weight_hh`, `bias_ih` and `bias_hh`. None of them depends on the implementation.

    Args:
        config: The model.
        input_size: Components of a token's vector, the first layer's input.

    """

    def __init__(self, config: ModelConfig, input_size: int) -> None:
        super().__init__()
        self.cell, self.hidden_size = config.cell, config.hidden_size
        self.output_size = config.hidden_size * (1 + config.bidirectional)
        sizes = [input_size] + [self.output_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList()
        for size in sizes:
            layer = RecurrentLayer(
                config.cell,
                size,
                config.hidden_size,
                bidirectional=config.bidirectional,
                implementation=config.implementation,
                initial_state=config.initial_state,
                nonlinearity=config.nonlinearity,
                bias=config.bias,
            )
            layer.initialise(config.recurrent_init, config.forget_bias)
            self.layers.append(layer)
        self.dropout = Dropout(config.dropout, shared=1 if config.variational_dropout else None)

    def forward(self, inputs: Tensor, lengths: Tensor, initial_state: Sequence[Tensor] | None = None) -> Tensor:
        """States of the last layer.

        Args:
            inputs: (batch, time, embedding size); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.
            initial_state: The states before the first token, instead of zeros or the learned ones: (h,), of an lstm
                (h, c), each (layers * directions, batch, hidden) in the order of `torch.nn.RNN`.

        Returns:
            (batch, time, output_size), the forward direction first; 0 after a review's last token.

        Raises:
            ValueError: for an initial state of another shape, type or device.

        """
        outputs, count = inputs, len(self.layers)
        if initial_state is not None:
            weight = next(self.layers[0].parameters())
            directions = self.output_size // self.hidden_size
            check_state(initial_state, self.cell, (count * directions, len(inputs), self.hidden_size), weight)
        for index, layer in enumerate(self.layers):
            state = None if initial_state is None else [part.chunk(count)[index] for part in initial_state]
            outputs = layer(outputs if index == 0 else self.dropout(outputs), lengths, state)
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
