"""Worker that measures training steps and layers, on requests from `recurrence.py`."""

import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from gemms import gemms_alone, layer_alone, layer_flops
from models import EMBEDDING_SIZE, OurTraining, Step, autocast, model_config, tutorial_step
from reviews import data_config, open_store, representative
from textrnn.base.process import keep_freed_memory
from textrnn.data.batches import Batch, collate, plan_epoch
from worker import serve

BATCH_SIZE = 64


class Bench:
    """The reviews, and every variant requested so far."""

    def __init__(self) -> None:
        self._measured = ("", 0)
        self._steps: dict[str, Step] = {}

    def open(self, *, path: str | None, quick: bool, max_length: int, ours: bool) -> int:
        """Open the reviews and return the vocabulary's size. `ours`: set up the process as the program does."""
        if ours:
            keep_freed_memory()
        self._max_length = max_length
        store = open_store(data_config(path, quick=quick, max_length=max_length))
        self._split, self.vocab_size = store.split("train"), store.vocab_size
        self._lengths = np.minimum(self._split.lengths, max_length)
        self._plan = plan_epoch(self._lengths, batch_size=BATCH_SIZE, seed=0, epoch=0)
        return self.vocab_size

    def train(self, *, variant: str, cell: str, hidden: int, steps: int, repeat: int) -> float:
        """Return tokens a second over `steps` training steps, without padding."""
        step = self._step(variant, cell, hidden)
        batches = self._shuffled(steps, repeat) if variant == "tutorial" else self._bucketed(steps, repeat)
        started = time.perf_counter()
        for batch in batches:
            step(batch)
        seconds = time.perf_counter() - started
        return sum(int(batch["lengths"].sum()) for batch in batches) / seconds

    def layer(self, *, variant: str, cell: str, hidden: int, time_steps: int, calls: int) -> float:
        """Return GFLOP/s of a bidirectional layer's forward and backward, or of its products alone."""
        run, copies = _layer(variant, cell, hidden, time_steps)
        precision = "bf16-mixed" if variant.endswith("bf16-mixed") else "32-true"
        with autocast(precision):
            run()
            started = time.perf_counter()
            for _ in range(calls):
                run()
        seconds = (time.perf_counter() - started) / calls
        flops = layer_flops(cell, EMBEDDING_SIZE, hidden, time=time_steps, batch=BATCH_SIZE, directions=2)
        return copies * flops / seconds / 1e9

    def first_batches(self, count: int) -> list[Batch]:
        """Return the batches of the plan's first steps."""
        return [self._batch(indices) for indices in self._plan[:count]]

    def _step(self, variant: str, cell: str, hidden: int) -> Step:
        if self._measured != (cell, hidden):  # one cell is measured at a time; the others' memory is free again
            self._steps.clear()
            self._measured = (cell, hidden)
        if variant not in self._steps:
            step = self._steps[variant] = self._make(variant, cell, hidden)
            short = self._batch(self._plan[0])
            short["token_ids"], short["lengths"] = short["token_ids"][:, :32], short["lengths"].clamp(max=32)
            step(short)  # warm
        return self._steps[variant]

    def _make(self, variant: str, cell: str, hidden: int) -> Step:
        if variant == "tutorial":
            return tutorial_step(cell, self.vocab_size, hidden)
        implementation, precision = variant.split()
        model = model_config(cell, hidden, implementation=implementation)
        return OurTraining(model, self.vocab_size, precision=precision).step

    def _bucketed(self, count: int, seed: int) -> list[Batch]:
        return [self._batch(step) for step in representative(self._plan, self._lengths, count, seed)]

    def _shuffled(self, count: int, seed: int) -> list[Batch]:
        rows = np.random.default_rng(seed).permutation(len(self._lengths))
        return [self._batch(rows[n * BATCH_SIZE : (n + 1) * BATCH_SIZE]) for n in range(count)]

    def _batch(self, indices: Any) -> Batch:
        weights = np.ones(len(indices), dtype=np.float32)
        size = len(indices)
        return collate(
            self._split, indices, weights, max_length=self._max_length, truncate="tail", global_batch_size=size
        )


@cache
def _layer(variant: str, cell: str, hidden: int, time_steps: int) -> tuple[Callable[[], None], int]:
    if variant == "gemms":
        return gemms_alone(cell, EMBEDDING_SIZE, hidden, time=time_steps, batch=BATCH_SIZE, directions=2)
    implementation = variant.split()[0]
    sizes = (cell, EMBEDDING_SIZE, hidden)
    return layer_alone(*sizes, time=time_steps, batch=BATCH_SIZE, implementation=implementation), 1


def main() -> int:
    """Answer requests until there are no more."""
    bench = Bench()
    answers: Mapping[str, Callable[..., Any]] = {
        "open": bench.open,
        "train": bench.train,
        "layer": bench.layer,
    }
    serve(lambda what, **request: answers[what](**request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
