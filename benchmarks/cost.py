"""Cost of each choice: tokens a second (without padding) of training steps, one choice changed at a time.

The steps have one pass, except for the choice that measures adversarial training's second pass. Their lower bound is
the time of the recurrent layer's matrix products alone at the default's shapes, in the same run.
"""

import time
from dataclasses import dataclass, replace

import torch

from gemms import gemms_alone
from models import EMBEDDING_SIZE, OurTraining, model_config
from report import Claim, Report, Table
from reviews import data_config, open_store, representative_batches
from settings import Settings
from textrnn.base.process import keep_freed_memory
from textrnn.data.store import Store
from timing import Measure, paired, shares_of_limit

CELLS = ("gru", "lstm", "rnn")
STEPS = 8
"""Training steps of a repeat, of all lengths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Settings of a training step, by configuration key; all defaults but `adversarial`'s are `train.py`'s."""

    hidden: int = 128
    layers: int = 1
    bidirectional: bool = True
    max_length: int = 400
    batch_size: int = 64
    precision: str = "32-true"
    adversarial: float = 0.0
    threads: int = 0
    """0: all cores."""


DEFAULT = Choice()
BASE = "the defaults, adversarial=0"
CHOICES = {
    BASE: DEFAULT,
    "adversarial=0.015": replace(DEFAULT, adversarial=0.015),
    "hidden_size=64": replace(DEFAULT, hidden=64),
    "hidden_size=256": replace(DEFAULT, hidden=256),
    "num_layers=2": replace(DEFAULT, layers=2),
    "bidirectional=false": replace(DEFAULT, bidirectional=False),
    "max_length=100": replace(DEFAULT, max_length=100),
    "max_length=200": replace(DEFAULT, max_length=200),
    "max_length=800": replace(DEFAULT, max_length=800),
    "batch_size=16": replace(DEFAULT, batch_size=16),
    "batch_size=32": replace(DEFAULT, batch_size=32),
    "batch_size=128": replace(DEFAULT, batch_size=128),
    "precision=bf16-mixed": replace(DEFAULT, precision="bf16-mixed"),
    "one thread": replace(DEFAULT, threads=1),
}
LIMIT = "its GEMMs alone"
FEW = (BASE, "adversarial=0.015", "batch_size=32", "one thread")
"""The choices of `--quick`."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    keep_freed_memory()
    torch.manual_seed(0)
    store = open_store(data_config(settings.data_path, quick=settings.quick))
    names = FEW if settings.quick else tuple(CHOICES)
    tokens = Table(title="training steps, one choice changed", unit="tokens/s")
    reviews = Table(title="the same", unit="reviews/s")
    report.tables += [tokens, reviews]
    for cell in CELLS:
        rates: dict[str, float] = {}
        variants: dict[str, Measure] = {}
        for name in names:
            variants[name], rates[name] = _training(cell, CHOICES[name], store, settings)
        variants[LIMIT] = _floor(cell, settings)
        values = paired(variants, settings.repeats)
        for name, measured in values.items():
            tokens.add(name, cell, measured)
            if name in rates:
                reviews.add(name, cell, [value / rates[name] for value in measured])
        share, busy = shares_of_limit(variants[BASE], variants[LIMIT], settings.repeats, values[BASE], values[LIMIT])
        name = f"{cell}: whole training steps over its layer's GEMMs alone"
        report.claims.append(Claim(name=name, values=share, busy=busy))


def _training(cell: str, choice: Choice, store: Store, settings: Settings) -> tuple[Measure, float]:
    """Return the measurement of tokens a second, and the tokens of a review."""
    model = model_config(
        cell,
        16 if settings.quick else choice.hidden,
        num_layers=choice.layers,
        bidirectional=choice.bidirectional,
        adversarial=choice.adversarial,
    )
    training = OurTraining(model, store.vocab_size, precision=choice.precision)
    batches = representative_batches(store, max_length=choice.max_length, batch_size=choice.batch_size, count=STEPS)
    counted = sum(int(batch["lengths"].sum()) for batch in batches)

    def measure(_: int) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(choice.threads or threads)
        training.step(batches[0])
        started = time.perf_counter()
        for batch in batches:
            training.step(batch)
        seconds = time.perf_counter() - started
        torch.set_num_threads(threads)
        return counted / seconds

    return measure, counted / sum(len(batch["labels"]) for batch in batches)


def _floor(cell: str, settings: Settings) -> Measure:
    """Return the measurement of the matrix products alone (tokens/s), at the defaults' hidden size and batch."""
    steps, hidden = (16, 16) if settings.quick else (256, DEFAULT.hidden)
    products, copies = gemms_alone(cell, EMBEDDING_SIZE, hidden, time=steps, batch=DEFAULT.batch_size, directions=2)

    def measure(_: int) -> float:
        products()
        started = time.perf_counter()
        for _ in range(4):
            products()
        return 4 * copies * steps * DEFAULT.batch_size / (time.perf_counter() - started)

    return measure
