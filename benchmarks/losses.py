"""Agreement with packing: losses of 50 training steps from the same weights, batches and dropout.

The learning rate is full from the first step. Adam amplifies rounding errors, so the difference grows; the distance of
each way from the same steps in float64 shows which of the two rounds more.
"""

from typing import Any

import torch

from models import OurTraining, model_config
from recurrence_worker import Bench
from report import Claim, Report, Table
from settings import Settings
from textrnn.config.schema import OptimizerConfig

CELLS = ("lstm", "gru", "rnn")
STEPS, HIDDEN, TOKENS = 50, 128, 512
WAYS = {"float64": ("auto", torch.float64), "ours": ("auto", torch.float32), "packing": ("packed", torch.float32)}
"""Name, implementation and type of a training; in float64 all implementations are equal to 1e-12, as tests hold."""


def run(settings: Settings, report: Report) -> None:
    """Compare and fill in the report."""
    steps, hidden, tokens = (3, 16, 64) if settings.quick else (STEPS, HIDDEN, TOKENS)
    bench = Bench()
    bench.open(path=settings.data_path, quick=settings.quick, max_length=tokens, ours=True)
    table = Table(title=f"largest difference to the same {steps} losses in float64", unit="nats")
    report.tables.append(table)
    for cell in CELLS:
        losses: dict[str, list[float]] = {}
        for way, (implementation, dtype) in WAYS.items():
            model = model_config(cell, hidden, implementation=implementation)
            training = OurTraining(model, bench.vocab_size, optimizer=OptimizerConfig(), dtype=dtype)
            losses[way] = _losses(training, bench.first_batches(steps))
        name = f"{cell}: largest difference to packing's losses over {steps} steps, float32"
        difference = _difference(losses["ours"], losses["packing"])
        report.claims.append(Claim(name=name, values=[difference], unit="nats", at_most=1e-4))
        for way in ("ours", "packing"):
            table.add(way, cell, [_difference(losses[way], losses["float64"])])
        report.keep(settings.output)


def _difference(ours: list[float], theirs: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def _losses(training: OurTraining, batches: list[Any]) -> list[float]:
    losses = []
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        losses.append(float(training.step(batch)))
    return losses
