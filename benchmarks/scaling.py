"""Scaling over processes of one machine: tokens a second of 1, 2 and 4 processes that share each step's reviews.

One thread a process. The same step divided among more processes (strong scaling), and a step that grows with them (weak
scaling). Two independent processes show what the machine itself loses when both cores are busy. A hook of DDP times
each step's exchange in each process. The shortest exchange is that of the straggler: the gradient synchronization. The
rest of the others' exchange is waiting.
"""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from machine import describe
from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from timing import Measure, paired, ratios
from worker import Worker

WORLD_SIZES, BATCH_SIZE, STEPS = (2, 4), 64, 32
ALONE, INDEPENDENT = "1 process", "2 independent processes"


class Group:
    """Processes that train together; they end with `stack`."""

    def __init__(self, stack: ExitStack, world_size: int, settings: Settings) -> None:
        self._workers = [stack.enter_context(Worker("scaling_worker.py")) for _ in range(world_size)]
        port = _free_port()
        self._pool = stack.enter_context(ThreadPoolExecutor(world_size))
        common = {"world_size": world_size, "port": port, "data_path": settings.data_path, "quick": settings.quick}
        self._ask_all(lambda rank: {"rank": rank, **common})

    def train(self, **block: int) -> list[dict[str, Any]]:
        """Return the measurements of each process over a block of steps."""
        return self._ask_all(lambda _: block)

    def _ask_all(self, request: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        ranks = range(len(self._workers))
        return list(self._pool.map(lambda rank: self._workers[rank].ask(**request(rank)), ranks))


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Shares of the processes' time."""

    synchronisation: float
    waiting: float
    expected_waiting: float
    """By the lengths alone."""
    update: float


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    quick = settings.quick
    open_store(data_config(settings.data_path, quick=quick))
    batch_size = 8 if quick else BATCH_SIZE
    block = {"hidden_size": 16 if quick else 128, "steps": 4 if quick else STEPS}
    shares: dict[str, list[Shares]] = {}
    sizes: dict[str, int] = {ALONE: 1, INDEPENDENT: 2}
    with ExitStack() as stack:
        alone, beside = (Group(stack, 1, settings) for _ in range(2))
        both = stack.enter_context(ThreadPoolExecutor(2))

        def independent(repeat: int) -> float:
            found = both.map(lambda group: group.train(batch_size=batch_size, seed=repeat, **block), (alone, beside))
            return sum(_rate(measured) for measured in found)

        def together(name: str, group: Group, reviews: int) -> Measure:
            def measure(repeat: int) -> float:
                measured = group.train(batch_size=reviews, seed=repeat, **block)
                shares.setdefault(name, []).append(_shares(measured))
                return _rate(measured)

            return measure

        measures: dict[str, Measure] = {ALONE: together(ALONE, alone, batch_size), INDEPENDENT: independent}
        for world_size in WORLD_SIZES[:1] if quick else WORLD_SIZES:
            group = Group(stack, world_size, settings)
            for reviews in (batch_size, batch_size * world_size):
                name = f"{world_size} processes, {reviews} reviews a step"
                sizes[name] = world_size
                measures[name] = together(name, group, reviews)
        rates = paired(measures, settings.repeats)
    _tell(report, rates, sizes, shares)


def _tell(
    report: Report, rates: dict[str, list[float]], sizes: dict[str, int], shares: dict[str, list[Shares]]
) -> None:
    cores = describe()["machine"]["cores"]
    throughput = Table(title=f"model=gru, one thread a process, {cores} cores", unit="tokens/s")
    efficiency = Table(title=f"over one process; one of n processes has at most 1 or {cores}/n of a core", unit="×")
    time = Table(title="shares of the processes' time", unit="%")
    report.tables += [throughput, efficiency, time]
    for name, values in rates.items():
        throughput.add(name, "together", values)
        throughput.add(name, "each", [value / sizes[name] for value in values])
        over = ratios(values, rates[ALONE])
        efficiency.add(name, "together", over)
        efficiency.add(name, "each (parallel efficiency)", [value / sizes[name] for value in over])
        if sizes[name] > 1:
            report.claims.append(Claim(name=f"{name}: tokens/s over one process", values=over))
    for name, each in shares.items():
        rest = [1 - one.synchronisation - one.waiting - one.update for one in each]
        time.add(name, "forward and backward", [100 * share for share in rest])
        time.add(name, "synchronization", [100 * one.synchronisation for one in each])
        time.add(name, "waiting", [100 * one.waiting for one in each])
        time.add(name, "waiting by lengths alone", [100 * one.expected_waiting for one in each])
        time.add(name, "clipping and optimizer", [100 * one.update for one in each])


def _rate(measured: list[dict[str, Any]]) -> float:
    """Return tokens a second of processes that train together."""
    tokens: int = sum(each["tokens"] for each in measured)
    seconds: float = max(each["seconds"] for each in measured)
    return tokens / seconds


def _shares(measured: list[dict[str, Any]]) -> Shares:
    exchanges = np.array([each["exchanges"] for each in measured])
    seconds = float(np.mean([each["seconds"] for each in measured]))
    least = exchanges.min(axis=0)
    return Shares(
        synchronisation=float(least.sum()) / seconds,
        waiting=float((exchanges - least).sum(axis=1).mean()) / seconds,
        expected_waiting=measured[0]["expected_waiting"],
        update=float(np.mean([each["update"] for each in measured])) / seconds,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
