"""Stacked recurrent layers: token vectors in, states out. Batch first."""

from collections.abc import Sequence

from torch import Tensor, nn

from textrnn.config.schema import ModelConfig
from textrnn.model.dropout import Dropout
from textrnn.model.implementations import IMPLEMENTATIONS, choose_implementation
from textrnn.model.recurrent import Direction, State


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one or both directions; the parameters don't depend on the implementation.

    Args:
        cell: rnn, lstm or gru.
        input_size: Features of a step.
        hidden_size: Units of one direction.
        bidirectional: Whether reviews are also read from the last token to the first.
        implementation: auto, compiled, fused, packed or cell.
        initial_state: zeros or learned.
        nonlinearity: tanh, or of an rnn relu.
        bias: Whether there are biases.

    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool,
        implementation: str = "auto",
        initial_state: str = "zeros",
        nonlinearity: str = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.implementation = implementation
        self.directions = nn.ModuleList(
            Direction(cell, input_size, hidden_size, initial_state=initial_state, nonlinearity=nonlinearity, bias=bias)
            for _ in range(1 + bidirectional)
        )

    def initialize(self, recurrent_init: str, forget_bias: float) -> None:
        """Draw all weights; see `Direction.initialize`."""
        for direction in self.directions:
            assert isinstance(direction, Direction)
            direction.initialize(recurrent_init, forget_bias)

    def forward(self, inputs: Tensor, lengths: Tensor, initial_state: Sequence[Tensor] | None = None) -> Tensor:
        """States after each token of each review.

        Args:
            inputs: (batch, time, input); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.
            initial_state: The state before the first token (of the backward direction: before the last), instead of
                zeros or the learned one: (h,), or for an lstm (h, c), each (directions, batch, hidden).

        Returns:
            (batch, time, directions * hidden), the forward direction first; 0 after a review's last token.

        Raises:
            ValueError: for an initial state of another shape, type or device.

        """
        # To the type checker a ModuleList holds plain modules.
        directions: list[Direction] = list(self.directions)  # type: ignore[arg-type]
        states: list[State]
        if initial_state is None:
            states = [direction.learned_state(len(inputs)) for direction in directions]
        else:
            weight = directions[0].weights[1]
            check_state(initial_state, self.cell, (len(directions), len(inputs), weight.shape[1]), weight)
            states = [tuple(part[index] for part in initial_state) for index in range(len(directions))]
        run = IMPLEMENTATIONS[choose_implementation(self.implementation, self.cell, directions[0].weights[0])]
        return run(directions, inputs.transpose(0, 1), lengths, states).transpose(0, 1)


def check_state(state: Sequence[Tensor], cell: str, shape: tuple[int, int, int], like: Tensor) -> None:
    """Check a given initial state, as the C code would read past the end of a smaller one.

    Raises:
        ValueError: it has not the cell's number of parts, or a part is not of `shape` and of `like`'s type and device.

    """
    names = ("h", "c") if cell == "lstm" else ("h",)
    if isinstance(state, Tensor) or len(state) != len(names):
        raise ValueError(f"initial_state: an {cell} takes ({', '.join(names)},), a sequence of {len(names)} tensor(s)")
    for name, part in zip(names, state, strict=True):
        if (tuple(part.shape), part.dtype, part.device) != (shape, like.dtype, like.device):
            raise ValueError(
                f"initial_state: {name} is {tuple(part.shape)}, {part.dtype} on {part.device}; it must be {shape}, "
                f"{like.dtype} on {like.device}"
            )


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
            layer.initialize(config.recurrent_init, config.forget_bias)
            self.layers.append(layer)
        self.dropout = Dropout(config.dropout, shared=1 if config.variational_dropout else None)

    def forward(self, inputs: Tensor, lengths: Tensor, initial_state: Sequence[Tensor] | None = None) -> Tensor:
        """States of the last layer.

        Args:
            inputs: (batch, time, embedding size); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.
            initial_state: The states before the first token, instead of zeros or the learned ones: (h,), or for an
                lstm (h, c), each (layers * directions, batch, hidden) in the order of `torch.nn.RNN`.

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
