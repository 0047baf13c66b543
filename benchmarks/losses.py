"""The same losses as packing: 50 training steps from the same weights, on the same batches, with the same dropout, at
the full learning rate from the first step. Adam turns other rounding into other steps, so the difference grows."""

from typing import Any

import torch

from models import OurTraining, model_config
from recurrence_worker import Bench
from report import Claim, Report
from settings import Settings
from textrnn.config import OptimizerConfig

CELLS = ("lstm", "gru", "rnn")
STEPS, HIDDEN, TOKENS = 50, 128, 512


def run(settings: Settings, report: Report) -> None:
    """Compare and fill in the report."""
    steps, hidden, tokens = (3, 16, 64) if settings.quick else (STEPS, HIDDEN, TOKENS)
    bench = Bench()
    bench.open(path=settings.data_path, quick=settings.quick, max_length=tokens, ours=True)
    for cell in CELLS:
        ways: list[list[float]] = []
        for implementation in ("auto", "packed"):
            model = model_config(cell, hidden, implementation=implementation)
            ways.append(
                _losses(OurTraining(model, bench.vocab_size, optimizer=OptimizerConfig()), bench.first_batches(steps))
            )
        difference = max(abs(ours - packed) for ours, packed in zip(*ways, strict=True))
        name = f"{cell}: largest difference to packing's losses over {steps} steps, float32"
        report.claims.append(Claim(name=name, values=[difference], unit="", at_most=1e-4))


def _losses(training: OurTraining, batches: list[Any]) -> list[float]:
    losses = []
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        losses.append(float(training.step(batch)))
    return losses
