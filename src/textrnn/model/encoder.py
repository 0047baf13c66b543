"""From token vectors to states: recurrent layers on top of each other."""

from collections.abc import Sequence

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
