"""The tutorials' systems, epoch by epoch: our recipes, and with `--peers` the originals.

A recipe is a file in conf/experiment; an original is the tutorial's own code, in TensorFlow or in a PyTorch loop. Both
read the same ids of all 25,000 training reviews. Each trains in a process of its own with all cores; their epochs
alternate, so a repeat is an epoch; when a recipe's epochs are over, the next seed begins. Accuracy is measured on the
test reviews after each epoch, as in the originals, which choose by it.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.config.compose import compose
from textrnn.config.schema import Config
from textrnn.data.store import Store, cache_dir
from textrnn.data.vectors.sources import open_vectors
from textrnn.data.vectors.table import vector_table
from timing import paired, ratios
from worker import Worker

KERAS = {"keras_simple_rnn": "rnn", "keras_rnn_cells": "rnn", "keras_lstm": "lstm", "keras_gru": "gru"}
"""The recipes whose originals are Keras models, and the cell of each."""
SYSTEMS = (*KERAS, "torch_rnn_glove", "torch_lstm_wandb")
OURS, OURS_BF16, ORIGINAL = "ours 32-true", "ours bf16-mixed", "original"


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    seconds, best = (
        Table(title="an epoch's training", unit="s"),
        Table(title="best epoch on the test reviews", unit="%"),
    )
    report.tables += [seconds, best]
    if settings.only and settings.output is not None:
        take_over(report, settings.output / f"{report.benchmark}.json", settings.only)
    systems = settings.only or list(SYSTEMS[-1:] if settings.quick else SYSTEMS)
    with TemporaryDirectory() as folder:
        for system in systems:
            config = compose([f"experiment={system}"])
            arrays, vocab_size = _arrays(config, Path(folder) / f"{system}.npz", settings)
            times: dict[str, list[float]] = {}
            epochs = min(config.trainer.max_epochs or 1, settings.repeats)
            for seed in range(-(-settings.repeats // epochs)):
                request = {"arrays": arrays, "vocab_size": vocab_size, "seed": seed}
                measured, tested = _epochs(system, config, request, epochs, settings, report)
                for way, values in measured.items():
                    times.setdefault(way, []).extend(values)
                    best.cells.setdefault(way, {}).setdefault(system, []).append(100 * max(tested[way]))
            for way, values in times.items():
                seconds.add(way, system, values)
            if ORIGINAL in times:
                name = f"{system}: epochs in the time of the original's one, float32"
                report.claims.append(Claim(name=name, values=ratios(times[ORIGINAL], times[OURS]), at_least=1.0))
            _sort(report)
            report.keep(settings.output)


def _sort(report: Report) -> None:
    report.claims.sort(key=lambda claim: SYSTEMS.index(_system(claim)))
    for table in report.tables:
        for way, cells in table.cells.items():
            table.cells[way] = {system: cells[system] for system in SYSTEMS if system in cells}


def _system(claim: Claim) -> str:
    return claim.name.partition(":")[0]


def take_over(report: Report, path: Path, but: list[str]) -> None:
    """Copy the recipes that aren't measured now from the report of the same machine and versions, if there is one."""
    if not path.is_file():
        return
    before = Report.read(path)
    versions = {**before.where["versions"], "tensorflow": None}
    if before.where["machine"] != report.where["machine"] or versions != {
        **report.where["versions"],
        "tensorflow": None,
    }:
        raise SystemExit(f"{path.name} is of another machine or of other versions; give another --output, or no --only")
    report.claims += [claim for claim in before.claims if _system(claim) not in but]
    for table, old in zip(report.tables, before.tables, strict=True):
        for way, cells in old.cells.items():
            table.cells[way] = {system: values for system, values in cells.items() if system not in but}


def _epochs(
    system: str, config: Config, request: dict[str, Any], epochs: int, settings: Settings, report: Report
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return seconds and test accuracy of each epoch of one seed, by way."""
    tested: dict[str, list[float]] = {}
    of_torch = {"system": system, **{key: asdict(getattr(config, key)) for key in ("model", "data", "optimizer")}}

    def measure(way: str, worker: Worker) -> Callable[[int], float]:
        def epoch(_: int) -> float:
            seconds, accuracy = worker.ask(what="epoch")
            print(f"{system}, {way}: {seconds:.1f} s, test accuracy {accuracy:.4f}", file=sys.stderr, flush=True)
            tested.setdefault(way, []).append(accuracy)
            return float(seconds)

        return epoch

    variants = {}
    with ExitStack() as stack:
        for way, kind in _ways(system, settings).items():
            if kind == "keras":
                worker = stack.enter_context(Worker("tutorial_keras.py", settings.tensorflow_python, ours=False))
                keras = {"cell": KERAS[system], "by_hand": system == "keras_rnn_cells", **request}
                report.where["versions"]["tensorflow"] = worker.ask(what="prepare", **keras)
            else:
                worker = stack.enter_context(Worker("tutorial_torch.py", ours=kind != "original"))
                clip = config.trainer.gradient_clip_val
                worker.ask(what="prepare", way=kind, clip=clip, **of_torch, **request)
            variants[way] = measure(way, worker)
        return paired(variants, epochs), tested


def _ways(system: str, settings: Settings) -> dict[str, str]:
    """Return the ways to measure and their workers' names for them; TensorFlow only if an interpreter has it.

    bf16 only if the processor supports it: others emulate it, four times slower than float32.
    """
    ways = {OURS: "32-true"}
    if torch.cpu.get_capabilities().get("avx512_bf16", False):
        ways[OURS_BF16] = "bf16-mixed"
    if settings.peers and system not in KERAS:
        ways[ORIGINAL] = "original"
    elif settings.peers and (settings.tensorflow_python is not None or find_spec("tensorflow") is not None):
        ways[ORIGINAL] = "keras"
    return ways


def _arrays(config: Config, path: Path, settings: Settings) -> tuple[str, int]:
    """Write the reviews that a recipe reads to a file; return it and the vocabulary's size.

    Ids of all training reviews one after the other, (tokens,) int32, their lengths and labels; the same of the test
    reviews; and pretrained vectors, where the recipe has them.
    """
    data, embedding = config.data, config.model.embedding
    shape: dict[str, int | str] = {"tokenizer": data.tokenizer, "vocab_size": data.vocab_size}
    store = open_store(data_config(settings.data_path, quick=settings.quick, **shape))
    arrays: dict[str, Any] = {}
    for name, parts in {"train": ("train", "validation"), "test": ("test",)}.items():
        splits = [store.split(part) for part in parts]
        ids = [_kept(split.token_ids(row), config) for split in splits for row in range(len(split))]
        arrays[f"{name}_ids"] = np.concatenate(ids)
        arrays[f"{name}_lengths"] = np.array([len(review) for review in ids])
        arrays[f"{name}_labels"] = np.concatenate([split.labels for split in splits])
    if embedding.vectors is not None:
        arrays["vectors"] = _vectors(config, store)
    np.savez(path, **arrays)
    return str(path), store.vocab_size


def _kept(ids: Any, config: Config) -> Any:
    """Return the tokens of a review that the recipe reads."""
    length = config.data.max_length
    return ids[:length] if config.data.truncate == "head" else ids[-length:]


def _vectors(config: Config, store: Store) -> Any:
    """Return the vocabulary's pretrained vectors, (vocabulary, size) float32."""
    vectors = open_vectors(config.model.embedding, cache_dir(config.data))
    return vector_table(vectors, store.vocabulary, seed=0).values.numpy()
