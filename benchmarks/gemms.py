"""Lower bound of a recurrent layer's time: its matrix products alone, in the same shapes and order, preallocated.

A training step of a layer with G gates in one direction, (T, B, I) in and (T, B, H) out, multiplies

- forward: (T·B, I) by (I, G·H) once, then T times (B, H) by (H, G·H);
- backward: T times (B, G·H) by (G·H, H), then once (T·B, G·H) by (G·H, I) for the inputs' gradient and
  (G·H, T·B) by (T·B, I) and by (T·B, H) for the weights'.

Everything else in a layer (gates, copies, bookkeeping) is added to it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from textrnn.model.encoder import RecurrentLayer
from textrnn.model.recurrent import GATES


def layer_flops(cell: str, inputs: int, hidden: int, *, time: int, batch: int, directions: int) -> int:
    """Floating point operations of the products in one training step."""
    return directions * 3 * 2 * time * batch * GATES[cell] * hidden * (inputs + hidden)


class _Products:
    """Buffers and products of one direction."""

    def __init__(self, gates: int, inputs: int, hidden: int, time: int, batch: int) -> None:
        wide = gates * hidden
        self.steps = torch.randn(time * batch, inputs)
        self.states = torch.randn(time, batch, hidden)
        self.weight_ih, self.weight_hh = torch.randn(wide, inputs), torch.randn(wide, hidden)
        self.projected = torch.empty(time * batch, wide)
        self.gates = torch.randn(time, batch, wide)
        self.step_out, self.step_back = torch.empty(batch, wide), torch.empty(batch, hidden)
        self.input_gradient = torch.empty(time * batch, inputs)
        self.weight_gradients = torch.empty(wide, inputs), torch.empty(wide, hidden)

    def forward(self) -> None:
        torch.mm(self.steps, self.weight_ih.t(), out=self.projected)
        weight = self.weight_hh.t()
        for state in self.states.unbind():
            torch.mm(state, weight, out=self.step_out)

    def backward(self) -> None:
        for gates in self.gates.unbind():
            torch.mm(gates, self.weight_hh, out=self.step_back)
        gates = self.gates.flatten(0, 1)
        torch.mm(gates, self.weight_ih, out=self.input_gradient)
        torch.mm(gates.t(), self.steps, out=self.weight_gradients[0])
        torch.mm(gates.t(), self.states.flatten(0, 1), out=self.weight_gradients[1])


def gemms_alone(
    cell: str, inputs: int, hidden: int, *, time: int, batch: int, directions: int
) -> tuple[Callable[[], None], int]:
    """Return a function that computes the products of training steps of a layer, and the number of these steps.

    Each of torch's threads has a step of its own and shares no product: at every small product torch's threads would
    wait for each other, on a busy machine for so long that a layer without such waits would be faster than its limit.
    """
    copies = torch.get_num_threads()
    products = [[_Products(GATES[cell], inputs, hidden, time, batch) for _ in range(directions)] for _ in range(copies)]
    threads = ThreadPoolExecutor(copies, initializer=lambda: torch.set_num_threads(1))

    def run() -> None:
        list(threads.map(_step, products))

    return run, copies


def _step(directions: list[_Products]) -> None:
    for direction in directions:
        direction.forward()
    for direction in reversed(directions):
        direction.backward()


def layer_alone(
    cell: str, inputs: int, hidden: int, *, time: int, batch: int, implementation: str = "auto"
) -> Callable[[], None]:
    """Return a function that runs a bidirectional layer forward and backward on full-length reviews."""
    layer = RecurrentLayer(cell, inputs, hidden, bidirectional=True, implementation=implementation)
    layer.initialize("uniform", 1.0)
    steps: Tensor = torch.randn(batch, time, inputs).requires_grad_()
    lengths = torch.full((batch,), time)
    gradient = torch.randn(batch, time, 2 * hidden)

    def run() -> None:
        layer.zero_grad()
        steps.grad = None
        layer(steps, lengths).backward(gradient)

    return run
