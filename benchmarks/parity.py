"""Exported models: ONNX Runtime's logits, speed and start-up time beside the checkpoint's.

Models of the default size with random weights: all cells, one and two layers, all poolings, two and four classes. Each
is exported as `textrnn export --to onnx` does it, which compares the logits of 264 random texts of 1 to 400 tokens.
The rates of one thread are of its CPU time, which a busy machine changes little; those of two are of wall time.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor

from machine import ROOT
from models import model_config
from report import Claim, Report, Table
from settings import Settings
from textrnn import load
from textrnn.base.process import keep_freed_memory
from textrnn.config.schema import CELLS, LABELS, POOLINGS, UNK_ID, Config, ModelConfig
from textrnn.data.tokenizer import train_tokenizer
from textrnn.model.network import TextClassifier
from textrnn.sharing.export import TOLERANCE, Logits, export
from textrnn.training.checkpoints import FORMAT
from timing import Stopwatch, paired, ratios

LAYERS, CLASSES, THREADS = (1, 2), (2, 4), (1, 2)
DEFAULTS = (1, "max", 2)
"""Layers, pooling and classes of the models whose speed is measured."""
WAYS = {"64 at a time": (512, 64), "one at a time": (64, 1)}
"""Texts, and those of a batch; all lengths are equally frequent."""
STARTED = "gru"
ANSWER = "import sys, textrnn; print(textrnn.load(sys.argv[1]).predict(sys.argv[2:])[0].label)"
OURS, THEIRS = "ours", "ONNX Runtime"

Batches = list[tuple[Tensor, Tensor]]
"""Token ids (batch, time) and lengths (batch,)."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    vocabulary, hidden, longest = (300, 8, 20) if settings.quick else (30_000, 128, 400)
    report.settings |= {"reviews": "generated", "vocabulary": vocabulary, "hidden": hidden, "tokens": longest}
    tokenizer = train_tokenizer([" ".join(_words(vocabulary))], "word", vocabulary)
    differences = Table(title="largest difference of a logit", unit="relative to logits above 1")
    sizes = Table(title="size of model.onnx", unit="MB")
    with TemporaryDirectory() as folder:
        models = list(product(CELLS, LAYERS, POOLINGS, CLASSES))
        for cell, layers, pooling, classes in models[:: 4 if settings.quick else 1]:  # the defaults are among them
            place = Path(folder) / (cell if (layers, pooling, classes) == DEFAULTS else "other")
            model = model_config(cell, hidden, num_layers=layers, pooling=pooling)
            write_checkpoint(place.with_suffix(".ckpt"), model, tokenizer, classes, longest)
            row, column = f"{cell}, {layers} layer{'s' * (layers > 1)}", f"{pooling}, {classes} classes"
            checkpoint = load(place.with_suffix(".ckpt")).checkpoint
            differences.add(row, column, [export(checkpoint, place, "onnx", metrics={})])
            sizes.add(row, column, [(place / "model.onnx").stat().st_size / 1e6])
            if place.name == "other":
                for file in place.iterdir():
                    file.unlink()
                place.rmdir()
        report.tables += [differences, sizes]
        found = [value for row in differences.cells.values() for values in row.values() for value in values]
        name = f"largest difference of a logit, {len(found)} models"
        report.claims.append(Claim(name=name, values=[max(found)], unit="", at_most=TOLERANCE))
        report.keep(settings.output)
        _rates(Path(folder), vocabulary, longest, settings.repeats, report)
        report.keep(settings.output)
        _starts(Path(folder) / STARTED, settings.repeats, report)


def _words(vocabulary: int) -> list[str]:
    """Return as many words as a vocabulary has, besides its two special tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(letters[number // 26**place % 26] for place in range(4)) for number in range(vocabulary - 2)]


def write_checkpoint(path: Path, model: ModelConfig, tokenizer: Tokenizer, classes: int, longest: int) -> None:
    """Write a checkpoint with random weights, as `train.py` does."""
    config = Config(model=model)
    config.data.max_length = longest
    vocabulary = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    network = TextClassifier(model, vocabulary, classes=classes)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))  # biases of zero would hide that they are exchanged
        network.output.weight.normal_(std=0.3)  # logits of some units, as of a trained model
    record = {
        "format": FORMAT,
        "config": asdict(config),
        "tokenizer": tokenizer.to_str(),
        "vocab_size": vocabulary,
        "identity": {},
        "data": {"classes": list(LABELS) if classes == 2 else [f"class {number}" for number in range(classes)]},
        "coverage": {},
    }
    state = {f"model.{name}": weight for name, weight in network.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 1, "epoch": 0, "textrnn": record}, path)


def _rates(folder: Path, vocabulary: int, longest: int, repeats: int, report: Report) -> None:
    """Measure texts per second of the network alone, without the tokenizer, for the threads that have a core."""
    keep_freed_memory()  # as the commands do; ONNX Runtime has an allocator of its own
    table = Table(title="texts per second, the default model of each cell", unit="texts/s")
    report.tables.append(table)
    for threads in [threads for threads in THREADS if threads <= len(os.sched_getaffinity(0))]:
        torch.set_num_threads(threads)
        for cell, (way, (count, size)) in product(CELLS, WAYS.items()):
            batches = _batches(count, size, longest, vocabulary)
            programs = {OURS: _ours(folder / f"{cell}.ckpt"), THEIRS: _theirs(folder / cell, threads)}
            measures = {name: _texts_per_second(program, batches, threads) for name, program in programs.items()}
            rates = paired(measures, repeats)
            row = f"{cell}, {threads} thread{'s' * (threads > 1)}"
            for name, values in rates.items():
                table.add(row, f"{name}, {way}", values)
            over = ratios(rates[THEIRS], rates[OURS])
            report.claims.append(Claim(name=f"{row}, {way}: ONNX Runtime's texts/s over ours", values=over))


def _batches(count: int, size: int, longest: int, vocabulary: int) -> Batches:
    """Return random texts of 1 to `longest` tokens, sorted by length."""
    generator = np.random.default_rng(0)
    lengths = torch.linspace(1, longest, count).round().long()
    return [
        (torch.from_numpy(generator.integers(UNK_ID, vocabulary, (len(part), int(part[-1])))), part)
        for part in torch.split(lengths, size)
    ]


def _ours(checkpoint: Path) -> Logits:
    network = load(checkpoint).network

    def logits(token_ids: Tensor, lengths: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = network(token_ids, lengths)
        return found

    return logits


def _theirs(folder: Path, threads: int) -> Logits:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def logits(token_ids: Tensor, lengths: Tensor) -> Tensor:
        (found,) = session.run(["logits"], {"token_ids": token_ids.numpy(), "lengths": lengths.numpy()})
        return torch.from_numpy(found)

    return logits


def _texts_per_second(logits: Logits, batches: Batches, threads: int) -> Callable[[int], float]:
    clock = time.process_time if threads == 1 else time.perf_counter

    def measure(_: int) -> float:
        logits(*batches[-1])  # warm again after the other program
        began = clock()
        for batch in batches:
            logits(*batch)
        return sum(len(lengths) for _, lengths in batches) / (clock() - began)

    return measure


def _starts(exported: Path, repeats: int, report: Report) -> None:
    """Measure new processes until the first answer."""
    texts = " ".join(_words(100)[2:])
    checkpoint = str(exported.with_suffix(".ckpt"))
    commands = {
        "predict.py of the export": (str(exported / "predict.py"), texts),
        "python predict.py CHECKPOINT": (str(ROOT / "predict.py"), checkpoint, texts),
        "textrnn.load(CHECKPOINT).predict": ("-c", ANSWER, checkpoint, texts),
    }
    table = Table(title=f"a new process until its first answer, {STARTED}", unit="s")

    def start(name: str, _: int) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with Stopwatch() as watch:
            environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
            subprocess.run([sys.executable, *commands[name]], env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        table.append(name, "time", watch.seconds)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        table.append(name, "CPU time", cpu)
        return cpu

    values = paired({name: partial(start, name) for name in commands}, repeats)
    first, *others = values
    for other in others:
        name = f"CPU time until the first answer: {other} over {first}"
        report.claims.append(Claim(name=name, values=ratios(values[other], values[first])))
    report.tables.append(table)
