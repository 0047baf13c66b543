"""Stragglers: how long devices wait for each other because reviews differ in length. A simulation without devices.

A step ends with its slowest device. Two rules give the time of a device's share of a step: its cells (reviews times the
longest review's tokens), as on a device that is bound by products, also those of padding; or the longest review's
tokens alone, as on a GPU, whose recurrence goes token by token and takes about as long for one review as for 64.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.data.batches import plan_epoch, shard_step
from timing import ratios, spread

Lengths = npt.NDArray[np.integer]
Steps = Iterator[list[Lengths]]
"""Steps of an epoch, each with the lengths of every device's reviews."""
Times = npt.NDArray[np.float64]
"""(steps, devices) what each share takes."""

DEVICES = (1, 2, 4, 8, 16, 32, 64)
BATCH_SIZE = 64
REGIMES = {"64 reviews a step": False, "64 reviews a device": True}
"""Whether the step grows with the devices."""
RULES: dict[str, Callable[[Lengths], int]] = {
    "cells": lambda share: len(share) * int(share.max()),
    "longest": lambda share: int(share.max()),
}


def dealt(lengths: Lengths, batch_size: int, devices: int, epoch: int) -> Steps:
    """Return our plan: a step's reviews are of similar length and are dealt to the devices like cards."""
    for step in plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=epoch):
        yield [lengths[shard_step(step, lengths, rank, devices)[0]] for rank in range(devices)]


def own_buckets(lengths: Lengths, batch_size: int, devices: int, epoch: int) -> Steps:
    """Return a plan with batches of similar length from each device's own part, as of a bucket sampler a device."""
    parts = np.array_split(np.random.default_rng([epoch, 1]).permutation(len(lengths)), devices)
    plans = [
        [part[batch] for batch in plan_epoch(lengths[part], batch_size=batch_size // devices, seed=rank, epoch=epoch)]
        for rank, part in enumerate(parts)
    ]
    for step in zip(*plans, strict=False):  # parts may differ by a review and so by a batch
        yield [lengths[batch] for batch in step]


def shuffled(lengths: Lengths, batch_size: int, devices: int, epoch: int) -> Steps:
    """Return a plan without buckets."""
    order = np.random.default_rng([epoch, 2]).permutation(len(lengths))
    for start in range(0, len(order) - devices + 1, batch_size):
        yield [lengths[share] for share in np.array_split(order[start : start + batch_size], devices) if len(share)]


WAYS = {"dealt (ours)": dealt, "own buckets": own_buckets, "shuffled": shuffled}
OURS = "dealt (ours)"


def run(settings: Settings, report: Report) -> None:
    """Simulate and fill in the report."""
    data = data_config(settings.data_path, quick=settings.quick)
    lengths = np.minimum(open_store(data).split("train").lengths, data.max_length)
    for regime, grows in REGIMES.items():
        waiting = Table(title=f"{regime}: share of the devices' time that waits, by devices", unit="%")
        padding = Table(title=f"{regime}: share of the cells that is padding, by devices", unit="%")
        slower = Table(title=f"{regime}: time of an epoch, by cells, over that of {OURS}, by devices", unit="×")
        report.tables += [waiting, padding, slower]
        for devices in DEVICES[:3] if settings.quick else DEVICES:
            batch_size = BATCH_SIZE * devices if grows else BATCH_SIZE
            epochs: dict[str, list[float]] = {}
            for way, steps_of in WAYS.items():
                simulated = [
                    _simulate(steps_of(lengths, batch_size, devices, epoch)) for epoch in range(settings.repeats)
                ]
                padding.add(way, str(devices), [100 * padded for _, padded in simulated])
                for rule in RULES:
                    shares = [100 * waits(times[rule]) for times, _ in simulated]
                    waiting.add(f"{way}, {rule}", str(devices), shares)
                epochs[way] = [float(times["cells"].max(axis=1).sum()) for times, _ in simulated]
                slower.add(way, str(devices), ratios(epochs[way], epochs[OURS]))
        devices_told = "8" if "8" in slower.columns else slower.columns[-1]
        for way in list(WAYS)[1:]:
            name = f"{regime}, {devices_told} devices: time of an epoch, {way} over dealt"
            report.claims.append(Claim(name=name, values=slower.cells[way][devices_told]))


def waits(times: Times) -> float:
    """Return the share of the devices' time that is spent waiting for the straggler of each step."""
    return 1.0 - float(times.mean(axis=1).sum() / times.max(axis=1).sum())


def _simulate(steps: Steps) -> tuple[dict[str, Times], float]:
    """Return the time of each share by each rule, and the share of padding in the cells."""
    taken: dict[str, list[list[int]]] = {rule: [] for rule in RULES}
    tokens = 0
    for step in steps:
        tokens += sum(int(share.sum()) for share in step)
        for rule, cost in RULES.items():
            taken[rule].append([cost(share) for share in step])
    times = {rule: _filled(rows) for rule, rows in taken.items()}
    return times, 1.0 - tokens / float(times["cells"].sum())


def _filled(rows: list[list[int]]) -> Times:
    """Fill in zeros for devices without a review in the last step."""
    devices = max(map(len, rows))
    return np.array([row + [0] * (devices - len(row)) for row in rows], dtype=np.float64)


def draw(report: Report, path: Path) -> None:
    """Draw the waiting shares, a column for each regime, a row for each rule."""
    from textrnn.tracking.plots import BLACK, ORANGE, PURPLE, new_figure, save_figure

    figure = new_figure(10, 7)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    tables = [table for table in report.tables if table.title.endswith("waits, by devices")]
    looks = dict(zip(WAYS, ((BLACK, "o"), (PURPLE, "s"), (ORANGE, "^")), strict=True))
    for column, table in enumerate(tables):
        for row, rule in enumerate(RULES):
            panel = panels[row][column]
            for way, (color, marker) in looks.items():
                cells = table.cells[f"{way}, {rule}"]
                panel.plot(
                    list(map(int, cells)),
                    [spread(values)[0] for values in cells.values()],
                    color=color,
                    marker=marker,
                    label=way,
                )
            panel.set_xscale("log", base=2)
            panel.set_xticks(DEVICES, list(map(str, DEVICES)))
            panel.set_title(f"{table.title.split(':')[0]}, time by {rule}")
            panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("devices")
    for panel in panels[:, 0]:
        panel.set_ylabel("waiting, %")
    panels[0][0].legend()
    save_figure(figure, path)
