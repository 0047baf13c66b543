"""Pictures of the notebooks, in colors that color-blind readers can distinguish."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from textrnn.tracking.plots import BLUE, CELLS, GRAY
from textrnn.tracking.plots import SKY as CYAN
from textrnn.tracking.plots import VERMILLION as RED

Array = npt.NDArray[Any]

COLORS = {cell: color for cell, (color, _) in CELLS.items()}
MARKERS = {cell: marker for cell, (_, marker) in CELLS.items()}


def set_style() -> None:
    """Small pictures, so that a notebook stays small."""
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "axes.grid": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
        }
    )


def unrolled(words: Sequence[str], states: Array) -> None:
    """A plain RNN from left to right: words below, one box a step, and the states (time, hidden) that come out."""
    figure, (boxes, heat) = plt.subplots(2, 1, figsize=(9, 4.6), height_ratios=(1, 1.3))
    last = len(words) - 1
    for t, word in enumerate(words):
        boxes.add_patch(FancyBboxPatch((t - 0.28, 0.2), 0.56, 0.5, boxstyle="round,pad=0.02", fc="#dde6f0", ec=BLUE))
        boxes.text(t, 0.45, "tanh", ha="center", va="center")
        boxes.text(t, -0.42, word, ha="center", va="center", weight="bold")
        _arrow(boxes, (t, -0.25), (t, 0.17))
        _arrow(boxes, (t - 0.72 if t else -0.65, 0.45), (t - 0.31, 0.45))
        boxes.text(t - 0.5, 0.53, f"$h_{t}$", ha="center", va="bottom")
    _arrow(boxes, (last + 0.31, 0.45), (last + 0.7, 0.45))
    boxes.text(last + 0.5, 0.53, f"$h_{last + 1}$", ha="center", va="bottom")
    boxes.set(xlim=(-0.75, last + 0.75), ylim=(-0.6, 0.95), title="one cell, the same weights at every step")
    boxes.axis("off")
    image = heat.imshow(states.T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    heat.set(xlim=(-0.75, last + 0.75), xlabel="state after step", ylabel="unit")
    heat.set_xticks(range(len(words)), [f"$h_{t + 1}$" for t in range(len(words))])
    figure.colorbar(image, ax=heat, label="value", pad=0.01)
    plt.show()


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": "#333333"})


def stacked_weights(weights: Mapping[str, Array], gates: Mapping[str, Sequence[str]]) -> None:
    """The recurrent matrices of the cells in one scale, each gate's part named at its side."""
    tallest = max(weight.shape[0] for weight in weights.values())
    figure, panels = plt.subplots(1, len(weights), figsize=(6.5, 4.4), sharey=True)
    largest = max(float(np.abs(weight).max()) for weight in weights.values())
    for axes, (name, weight) in zip(panels, weights.items(), strict=True):
        image = axes.imshow(weight, cmap="RdBu_r", vmin=-largest, vmax=largest)
        hidden = weight.shape[1]
        for number, gate in enumerate(gates[name]):
            middle = (number + 0.5) * hidden - 0.5
            axes.text(hidden - 0.2, middle, gate, va="center", ha="left")
            axes.axhline((number + 1) * hidden - 0.5, color="black", linewidth=1.5)
        axes.set(title=f"{name}\n{weight.shape}", xlabel="old unit", ylim=(tallest - 0.5, -0.5))
        axes.spines[:].set_visible(False)
        axes.tick_params(left=name == next(iter(weights)), bottom=False)
    panels[0].set_ylabel("row of weight_hh_l0")
    figure.colorbar(image, ax=panels, label="weight", shrink=0.6, pad=0.1)
    plt.show()


def output_and_state(layers: int, time: int) -> None:
    """Which states of a bidirectional network are in `output` and which in `h`, as nn.LSTM returns them."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    rows = [(layer, direction) for layer in range(layers) for direction in ("forward", "backward")]
    for row, (layer, direction) in enumerate(rows):
        backward = direction == "backward"
        for t in range(time):
            in_output, in_h = layer == layers - 1, t == (0 if backward else time - 1)
            axes.scatter(t, row, s=420, color=CYAN if in_output else "#eeeeee", edgecolor=GRAY)
            if in_h:
                axes.scatter(t, row, s=620, facecolor="none", edgecolor=RED, linewidth=3)
            if t:
                ends = ((t - 0.22, row), (t - 0.78, row)) if backward else ((t - 0.78, row), (t - 0.22, row))
                _arrow(axes, *ends)
    axes.set_yticks(range(len(rows)), [f"layer {layer}, {direction}" for layer, direction in rows])
    axes.set_xticks(range(time), [str(t) for t in range(time)])
    axes.set(xlabel="time", xlim=(-0.6, time - 0.4), ylim=(-0.6, len(rows) - 0.4))
    axes.scatter([], [], s=150, color=CYAN, edgecolor=GRAY, label="output: the last layer at every time")
    axes.scatter([], [], s=150, facecolor="none", edgecolor=RED, linewidth=3, label="h: every layer at its last word")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    plt.show()


def gates_by_word(
    words: Sequence[str], belief: Array, gates: Mapping[str, Array], title: str, *, order_by: str
) -> None:
    """What a trained cell believes after each word, and its gates (time, hidden) below, one column a word.

    The units are in the order of the mean of the gate `order_by`, the largest on top.
    """
    order = np.argsort(-gates[order_by].mean(axis=0))
    figure, panels = plt.subplots(
        len(gates) + 1, 1, figsize=(11, 2 + 1.3 * len(gates)), sharex=True, height_ratios=[1.1] + [1] * len(gates)
    )
    panels[0].plot(belief, marker="o", color=BLUE)
    panels[0].axhline(0.5, color=GRAY, linestyle="--")
    panels[0].set(ylabel="P(positive)", ylim=(-0.05, 1.05), title=title)
    for axes, (name, values) in zip(panels[1:], gates.items(), strict=True):
        image = axes.imshow(values[:, order].T, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(ylabel=name, yticks=[])
    panels[-1].set_xticks(range(len(words)), words, rotation=90)
    figure.colorbar(image, ax=panels[1:], label="value of the gate, a row a unit", pad=0.01)
    plt.show()


def word_grids(grids: Mapping[str, Array], seen: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Batches of words as grids, padding gray, what a network's last step reads framed."""
    widths = [grid.shape[1] for grid in grids.values()]
    _, panels = plt.subplots(1, len(grids), figsize=(1.05 * sum(widths), 3.4), width_ratios=widths)
    for axes, (title, grid) in zip(panels, grids.items(), strict=True):
        for (row, column), word in np.ndenumerate(grid):
            framed = (row, column) in seen[title]
            color = "#dddddd" if word == "<pad>" else "#dde6f0"
            axes.add_patch(plt.Rectangle((column, row), 1, 1, fc=color, ec="white", lw=2))
            if framed:
                axes.add_patch(plt.Rectangle((column + 0.06, row + 0.08), 0.88, 0.84, fc="none", ec=RED, lw=2.5))
            axes.text(column + 0.5, row + 0.5, word, ha="center", va="center", fontsize=9)
        axes.set(xlim=(0, grid.shape[1]), ylim=(grid.shape[0], 0), title=title, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    plt.show()
