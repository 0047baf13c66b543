"""Data pipeline: texts to a file of token ids, the file to batches, and the time that a step waits for its batch."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from models import OurTraining, model_config
from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.base.process import keep_freed_memory
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import ROWS_PER_BATCH, TEXTS, ReviewWriter, Split
from textrnn.data.store import Store
from textrnn.data.store_writer import encode_file
from textrnn.data.tokenizer import load_tokenizer
from timing import Measure, Stopwatch, paired, ratios

TEXTS_TO_ENCODE, STEPS = 10_000, 40
LIBRARY_BATCH = 250
"""Texts that the library is given at once: enough for all cores, few enough for memory that the process already has."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    keep_freed_memory()  # as the program does; without it a step's freed memory is trimmed while its next batch is made
    config = data_config(settings.data_path, quick=settings.quick)
    store = open_store(config)
    _encoding(store, settings, report)
    loader = BatchLoader(
        store.split("train"),
        batch_size=config.batch_size,
        max_length=config.max_length,
        truncate=config.truncate,
        shuffle=True,
    )
    read = paired({"read": lambda _: _reading(loader)}, settings.repeats)["read"]
    name = "planned batches read from the store, one process"
    report.claims.append(Claim(name=name, values=[rate / 1e6 for rate in read], unit="M tokens/s", at_least=20.0))
    training = OurTraining(model_config("gru", 128), store.vocab_size)
    steps = 2 if settings.quick else STEPS
    waits = paired({"wait": lambda _: _waiting(loader, training, steps)}, settings.repeats)["wait"]
    name = "share of a training step (model=gru) that waits for its batch"
    report.claims.append(Claim(name=name, values=[100 * share for share in waits], unit="%", at_most=1.0))


def _encoding(store: Store, settings: Settings, report: Report) -> None:
    split, tokenizer = store.split("train"), load_tokenizer(store.tokenizer_json)
    count = min(len(split), TEXTS_TO_ENCODE)
    tokens = int(split.lengths[:count].sum())
    texts = [split.text(row) for row in range(count)]

    def library() -> None:
        for start in range(0, count, LIBRARY_BATCH):
            tokenizer.encode_batch_fast(texts[start : start + LIBRARY_BATCH], add_special_tokens=False)

    class_ids = pa.array(range(len(store.classes)), pa.int16())
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "reviews.texts"), Path(folder, "reviews.arrow")
        _write_texts(source, split, texts)

        def rate(encode: Callable[[], object]) -> Measure:
            def measure(_: int) -> float:
                with Stopwatch() as watch:
                    encode()
                return tokens / watch.seconds

            return measure

        ours = rate(lambda: encode_file(source, target, tokenizer, class_ids))
        values = paired({"tokenizers library": rate(library), "texts to token store": ours}, settings.repeats)
    table = Table(title="encoding, all cores", unit="tokens/s")
    for name, rates in values.items():
        table.add(name, "tokens/s", rates)
    report.tables.append(table)
    library_rates, our_rates = values.values()
    name = "texts to token store, over the tokenizers library's own encoding of them"
    report.claims.append(Claim(name=name, values=ratios(our_rates, library_rates), at_least=0.9))


def _write_texts(path: Path, split: Split, texts: list[str]) -> None:
    with ReviewWriter(path, TEXTS) as writer:
        for start in range(0, len(texts), ROWS_PER_BATCH):
            stop = min(start + ROWS_PER_BATCH, len(texts))
            writer.write(split.labels[start:stop].tolist(), texts[start:stop])


def _reading(loader: BatchLoader) -> float:
    """Return tokens a second over an epoch's batches."""
    tokens = int(np.sum(loader.lengths))
    with Stopwatch() as watch:
        for _ in loader:
            pass
    return tokens / watch.seconds


def _waiting(loader: BatchLoader, training: OurTraining, steps: int) -> float:
    """Return the share of the time of `steps` training steps that is spent waiting for batches."""
    batches = iter(loader)
    training.step(next(batches))  # the plan is made with the first batch, once an epoch
    waited = 0.0
    started = time.perf_counter()
    for _ in range(steps):
        with Stopwatch() as watch:
            batch = next(batches)
        waited += watch.seconds
        training.step(batch)
    return waited / (time.perf_counter() - started)
