"""One recurrent layer: parameters, an initial state, and an implementation that runs them. Batch first."""

from collections.abc import Sequence

from torch import Tensor, nn

from textrnn.model.cells import Direction, State
from textrnn.model.implementations import IMPLEMENTATIONS, choose_implementation


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one or both reading directions; the parameters don't depend on the implementation.

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

    def initialise(self, recurrent_init: str, forget_bias: float) -> None:
        """Draw all weights; see `Direction.initialise`."""
        for direction in self.directions:
            assert isinstance(direction, Direction)
            direction.initialise(recurrent_init, forget_bias)

    def forward(self, inputs: Tensor, lengths: Tensor, initial_state: Sequence[Tensor] | None = None) -> Tensor:
        """States after each token of each review.

        Args:
            inputs: (batch, time, input); finite everywhere, padding included.
            lengths: (batch,) int64, each from 1 to time.
            initial_state: The state before the first token (of the backward direction: before the last), instead of
                zeros or the learned one: (h,), of an lstm (h, c), each (directions, batch, hidden).

        Returns:
            (batch, time, directions * hidden), the forward direction first; 0 after a review's last token.

        Raises:
            ValueError: for an initial state of another shape, type or device.

        """
        # A ModuleList gives back plain modules, as far as types know.
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
    """Refuse a given initial state that doesn't fit; the C code would read past its end.

    Raises:
        ValueError: it hasn't the cell's number of parts, or a part isn't of `shape` and of `like`'s type and device.

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
