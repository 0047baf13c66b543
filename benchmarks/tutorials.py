"""The model that tutorials train on IMDB, epoch by epoch: ours, and with `--peers` TensorFlow and a plain PyTorch loop.

The 10,000 most frequent words, the last 80 tokens of a review, all 25,000 training reviews; embedding of 100, two
recurrent layers of 64, dropout 0.5, one logit, Adam 1e-3, batches of 128. All ways read the same ids. Each way trains
in a process of its own with all cores; their epochs take turns.
"""

from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.data.store import Store
from timing import paired, ratios
from worker import Worker

CELLS = ("rnn", "lstm", "gru")
OURS, OURS_BF16, PLAIN, KERAS = "ours 32-true", "ours bf16-mixed", "plain PyTorch loop", "TensorFlow"
VOCAB_SIZE, TOKENS, BATCH_SIZE = 10_000, 80, 128


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report; an epoch is a repeat."""
    store = open_store(data_config(settings.data_path, quick=settings.quick, vocab_size=VOCAB_SIZE))
    seconds, accuracies = Table(title="an epoch's training", unit="s"), list[Table]()
    with TemporaryDirectory() as folder:
        arrays = Path(folder) / "reviews.npz"
        np.savez(arrays, **_arrays(store))
        for cell in CELLS[:1] if settings.quick else CELLS:
            times, tested = _epochs(cell, arrays, settings, report)
            accuracies.append(Table(title=f"{cell}: accuracy on the test reviews", unit="%"))
            for way in times:
                seconds.add(way, cell, times[way])
                for epoch, accuracy in enumerate(tested[way], 1):
                    accuracies[-1].add(way, f"epoch {epoch}", [100 * accuracy])
            for peer, bar in ((KERAS, 1.0), (PLAIN, None)):
                if peer in times:
                    name = f"{cell}: epochs in the time of {peer}'s one, float32"
                    report.claims.append(Claim(name=name, values=ratios(times[peer], times[OURS]), at_least=bar))
    report.tables += [seconds, *accuracies]


def _epochs(
    cell: str, arrays: Path, settings: Settings, report: Report
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and test accuracy of each epoch, by way."""
    request = {"cell": cell, "arrays": str(arrays), "vocab_size": VOCAB_SIZE, "batch_size": BATCH_SIZE}
    tested: dict[str, list[float]] = {}

    def measure(way: str, worker: Worker) -> Callable[[int], float]:
        def epoch(_: int) -> float:
            seconds, accuracy = worker.ask(what="epoch")
            tested.setdefault(way, []).append(accuracy)
            return float(seconds)

        return epoch

    variants = {}
    with ExitStack() as stack:
        for way, kind in _ways(settings).items():
            if way == KERAS:
                worker = stack.enter_context(Worker("tutorial_keras.py", settings.tensorflow_python))
                report.where["versions"]["tensorflow"] = worker.ask(what="prepare", **request)
            else:
                worker = stack.enter_context(Worker("tutorial_torch.py"))
                worker.ask(what="prepare", way=kind, **request)
            variants[way] = measure(way, worker)
        return paired(variants, settings.repeats), tested


def _ways(settings: Settings) -> dict[str, str]:
    """The ways to measure and what their workers call them; TensorFlow where there is an interpreter that has it."""
    ways = {OURS: "32-true", OURS_BF16: "bf16-mixed"}
    if settings.peers:
        ways[PLAIN] = "plain"
        if settings.tensorflow_python is not None or find_spec("tensorflow") is not None:
            ways[KERAS] = "keras"
    return ways


def _arrays(store: Store) -> dict[str, Any]:
    """Ids, (reviews, 80) int32, padded in front, and labels, of all training and all test reviews."""
    arrays: dict[str, Any] = {}
    for name, parts in {"train": ("train", "validation"), "test": ("test",)}.items():
        splits = [store.split(part) for part in parts]
        ids = np.zeros((sum(map(len, splits)), TOKENS), dtype=np.int32)
        rows = iter(ids)
        for split in splits:
            for index in range(len(split)):
                review = split.token_ids(index)[-TOKENS:]
                next(rows)[TOKENS - len(review) :] = review
        arrays[f"{name}_ids"] = ids
        arrays[f"{name}_labels"] = np.concatenate([split.labels for split in splits])
    return arrays
