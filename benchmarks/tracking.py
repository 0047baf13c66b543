"""Cost of tracking: the program's steps with W&B, offline and online, against those without.

Each mode is one run of the program, in a process of its own, through all repeats: it trains a block of steps on request
and then waits. So the blocks of the modes alternate, and the blocks of a pair are seconds apart. Online means the
tests' W&B server on this machine, which shares its cores. The upload at a run's end is not part of a step.
"""

import sys
from contextlib import ExitStack

from machine import ROOT
from report import Claim, Report, Table
from settings import Settings
from timing import Measure, paired, ratios
from worker import Worker

MODES = ("none", "offline", "online")
STEPS, LOG_EVERY = 100, 50
"""A row every 50 steps is the program's default."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    sys.path.append(str(ROOT / "tests"))
    from doubles.wandb_server import WandbServer

    steps, log_every = (4, 2) if settings.quick else (STEPS, LOG_EVERY)
    with ExitStack() as stack:
        server = stack.enter_context(WandbServer())
        measures: dict[str, Measure] = {}
        for mode in MODES:
            worker = stack.enter_context(Worker("tracking_worker.py"))
            worker.ask(
                mode=mode,
                url=server.url,
                blocks=settings.repeats,
                steps=steps,
                log_every=log_every,
                data_path=settings.data_path,
                quick=settings.quick,
            )
            measures[mode] = _block_of(worker)
        seconds = paired(measures, settings.repeats)
    table = Table(title=f"blocks of {steps} steps, a row every {log_every}", unit="s")
    for mode, values in seconds.items():
        table.add(f"tracking={mode}", "training", values)
    report.tables.append(table)
    for mode in MODES[1:]:
        name = f"a step with tracking={mode} over one with tracking=none"
        report.claims.append(Claim(name=name, values=ratios(seconds[mode], seconds["none"]), at_most=1.02))


def _block_of(worker: Worker) -> Measure:
    return lambda _: float(worker.ask())
