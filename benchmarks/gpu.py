"""Measures one GPU within minutes: python benchmarks/gpu.py [--data-path DIR] [--minutes 8].

In this order: agreement with the processor; operations that wait for the device; training steps of all cells, sizes and
precisions against a bare loop over cuDNN; two ranks on one GPU; whole runs of the program; the tests marked gpu. What
has been measured is in `results/gpu.json` at once, and parts that no longer fit into the minutes are left out with a
line. `python benchmarks/gpu.py --quick --device cpu` goes the same way on a processor, with tiny sizes.

Where nothing can be installed, bring the wheels of what train.py imports (`pip download -d wheels -c constraints.txt
--no-deps hydra-core omegaconf antlr4-python3-runtime torchmetrics tokenizers datasets pyarrow ...`); torch and
pytorch-lightning may be those of the machine.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import machine
from gpu_steps import Bench, Training, bare, ours, tensor_cores
from models import model_config
from report import Claim, Report, Table, show
from reviews import IMDB
from settings import Settings
from textrnn.config.schema import ModelConfig, OptimizerConfig
from textrnn.data.batches import Batch
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.loss import training_loss
from textrnn.model.network import TextClassifier
from timing import Measure, paired, ratios

CELLS = ("rnn", "lstm", "gru")
POOLINGS = ("last", "mean", "max", "max_mean")
REPEATS = 3
WITHOUT_DROPOUT: dict[str, Any] = {"word_dropout": 0.0, "embedding_dropout": 0.0, "output_dropout": 0.0}


def measure_agreement(bench: Bench, report: Report) -> None:
    """Logits and gradients of the same weights on the processor and, by torch's kernels, on the device."""
    for cell in CELLS:
        for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-3)):
            with tensor_cores("float32"):
                worst = max(
                    _apart(bench, model_config(cell, 32, pooling=pooling, **WITHOUT_DROPOUT), dtype)
                    for pooling in POOLINGS
                )
            name = f"{cell}: largest difference from the processor, {str(dtype).removeprefix('torch.')}"
            report.claims.append(Claim(name=name, values=[worst], unit="", at_most=limit))


def _apart(bench: Bench, config: ModelConfig, dtype: torch.dtype) -> float:
    """Return the largest difference of a logit or gradient, relative to the largest of its tensor."""

    def network(implementation: str) -> TextClassifier:
        model = replace(config, implementation=implementation)
        return ReviewClassifier(model, OptimizerConfig(), vocab_size=bench.vocab_size, seed=0).model.to(dtype)

    batch = bench.batches[0]
    here = cast(Batch, {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()})
    found = []
    for one, reviews in ((network("auto"), here), (network("fused").to(bench.device), batch)):
        step = training_loss(one, reviews, config)
        step.loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients = [parameter.grad for parameter in one.parameters() if parameter.grad is not None]
        found.append([tensor.double().cpu() for tensor in (step.logits, *gradients)])
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in zip(*found, strict=True))


def measure_steps(bench: Bench, report: Report) -> None:
    """Tokens a second of training steps, and the memory of ours."""
    memory = Table(title="largest memory of the program's steps", unit="GiB")
    for hidden in bench.hidden:
        rates = Table(title=f"training steps, {hidden} units in both directions", unit="tokens/s")
        report.tables.append(rates)
        for cell in CELLS:
            for precision in bench.precisions:
                with tensor_cores(precision):
                    values = _step_rates(bench, cell, hidden, precision, memory)
                for name, rate in values.items():
                    rates.add(f"{name}, {precision}", cell, rate)
                gain = ratios(values["ours"], values["bare cuDNN"])
                name = f"{cell} {hidden}, {precision}: rate over that of bare cuDNN"
                report.claims.append(Claim(name=name, values=gain))
    if memory.cells:
        report.tables.append(memory)


def _step_rates(bench: Bench, cell: str, hidden: int, precision: str, memory: Table) -> dict[str, list[float]]:
    makers: dict[str, Callable[[], Training]] = {
        "ours": lambda: ours(bench, cell, hidden, precision),
        "packed": lambda: ours(bench, cell, hidden, precision, implementation="packed"),
        "bare cuDNN": lambda: bare(bench, cell, hidden, precision),
    }
    if hidden == bench.hidden[0] and precision in ("float32", "bf16-mixed") and bench.device.type == "cuda":
        makers["bare, torch.compile"] = lambda: bare(bench, cell, hidden, precision, compiled=True)
    variants: dict[str, Measure] = {}
    for name, make in makers.items():
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        training = make()
        for batch in bench.batches:
            training.step(batch)  # warm
        if name == "ours" and bench.device.type == "cuda":
            memory.add(f"{cell}, {precision}", str(hidden), [torch.cuda.max_memory_allocated() / 2**30])
        variants[name] = partial(_rate, bench, training)
    return paired(variants, 1 if bench.quick else REPEATS)


def _rate(bench: Bench, training: Training, _: int) -> float:
    bench.wait()
    started = time.perf_counter()
    for batch in bench.batches:
        training.step(batch)
    bench.wait()
    return bench.tokens / (time.perf_counter() - started)


def measure_waits(bench: Bench, report: Report) -> None:
    """Operations in a training step that wait for the device, by torch's own debug mode. 16-mixed needs one."""
    for precision in bench.precisions:
        for adversarial in (0.0, 0.015):
            training = ours(bench, "gru", bench.hidden[0], precision, adversarial=adversarial)
            training.step(bench.batches[0])
            waits = _waits(partial(training.step, bench.batches[-1]))
            name = f"waits for the device in a step, {precision}, adversarial={adversarial}"
            limit = 1.0 if precision == "16-mixed" else 0.0
            report.claims.append(Claim(name=name, values=[float(waits)], unit="", at_most=limit))


def _waits(run: Callable[[], None]) -> int:
    if not torch.cuda.is_available():
        run()
        return 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


RANK = """\
import sys, torch
rank, port, backend = int(sys.argv[1]), sys.argv[2], sys.argv[3]
device = "cuda" if backend == "nccl" else "cpu"
torch.distributed.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
total = torch.full((1000,), 1.0 + rank, device=device)
torch.distributed.all_reduce(total)
assert total.eq(3).all()
torch.distributed.destroy_process_group()
"""


def measure_ranks(bench: Bench, report: Report) -> None:
    """Whether two processes can share the GPU over NCCL, which newer versions refuse."""
    backend = "nccl" if bench.device.type == "cuda" else "gloo"
    port = str(20000 + os.getpid() % 20000)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), port, backend],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=60)[1] for rank in ranks]
    except subprocess.TimeoutExpired:
        said = ["no answer within 60 s"]
    finally:
        for rank in ranks:
            rank.kill()
    works = all(rank.returncode == 0 for rank in ranks)
    lines = [line for text in said for line in text.splitlines() if "Error" in line or "uplicate" in line]
    report.settings["two ranks on one device"] = "work" if works else (lines or said)[-1][:200]


def measure_runs(bench: Bench, report: Report, path: str | None) -> None:
    """Whole runs of the program: accuracy, seconds, tokens a second, and how busy the GPU is."""
    table = Table(title="whole runs of train.py, model=gru", unit="percent, seconds, tokens/s, percent")
    data = [f"data.path={path}"] if path and not bench.quick else ["experiment=first_run"]
    small = ["trainer.max_steps=4", "trainer.limit_val_batches=2", "data.synthetic.train_reviews=200"]
    for precision in ("32-true", "bf16-mixed") if not bench.quick else ("32-true",):
        with TemporaryDirectory() as folder, _busy(bench) as busy:
            command = [sys.executable, "train.py", *data, "tracking=none", f"trainer.precision={precision}"]
            command += [f"run_dir={folder}/run", "trainer=gpu" if bench.device.type == "cuda" else "trainer=cpu"]
            command += small if bench.quick else []
            started = time.perf_counter()
            done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            if done.returncode != 0:
                raise RuntimeError(f"train.py ended with {done.returncode}: {done.stderr[-2000:]}")
            summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
        table.add(precision, "test accuracy", [100 * summary["test/accuracy"]])
        table.add(precision, "start to end", [seconds])
        table.add(precision, "training", [summary["seconds"]])
        table.add(precision, "tokens/s", [summary["tokens"] / summary["seconds"]])
        table.add(precision, "waiting for batches", [100 * summary["waited_seconds"] / summary["seconds"]])
        if busy:
            table.add(precision, "GPU busy", [float(np.mean(busy))])
    report.tables.append(table)


@contextmanager
def _busy(bench: Bench) -> Iterator[list[float]]:
    """Yield a list that has the GPU's utilization, in percent each second, once it ends."""
    values: list[float] = []
    if bench.device.type != "cuda":
        yield values
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield values
        finally:
            sampler.terminate()
            values += [float(line) for line in sampler.communicate()[0].splitlines() if line.strip().isdecimal()]


def measure_tests(bench: Bench, report: Report) -> None:
    """The tests marked gpu."""
    chosen = ["tests"] if bench.device.type == "cuda" else ["--collect-only", "tests/runs/test_gpu.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-3000:], flush=True)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    for what in ("failed", "passed"):
        limit = 0.0 if what == "failed" else None
        count = float(counts.get(what, 0))
        report.claims.append(Claim(name=f"tests that {what}", values=[count], unit="", at_most=limit))


def main(argv: Sequence[str]) -> int:
    """Measure the parts and write the report; returns 1 if a target was missed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-path", type=Path, help="the real reviews (default ../shared/imdb, else generated ones)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for gpu.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part is begun later (default 8)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes on generated reviews: to see that it runs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: with --quick, to try it")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("error: torch sees no GPU here; --quick --device cpu tries the benchmark itself.", file=sys.stderr)
        return 2
    path = arguments.data_path or (IMDB if IMDB.is_dir() else None)
    data_path = None if path is None else str(path.resolve())
    settings = Settings(repeats=1 if arguments.quick else REPEATS, data_path=data_path, quick=arguments.quick)
    report = Report(benchmark="gpu", settings=settings.record(), where=machine.describe())
    bench = Bench(arguments.device, data_path, quick=arguments.quick)
    parts: Mapping[str, Callable[[], None]] = {
        "agreement": lambda: measure_agreement(bench, report),
        "waits": lambda: measure_waits(bench, report),
        "steps": lambda: measure_steps(bench, report),
        "ranks": lambda: measure_ranks(bench, report),
        "runs": lambda: measure_runs(bench, report, data_path),
        "tests": lambda: measure_tests(bench, report),
    }
    started = time.monotonic()
    for name, measure in parts.items():
        minutes = (time.monotonic() - started) / 60
        if minutes > arguments.minutes:
            print(f"{name}: left out after {minutes:.1f} minutes", flush=True)
            continue
        print(f"{name}: from minute {minutes:.1f}", flush=True)
        try:
            measure()
        finally:
            report.keep(arguments.output)
    show(report, Console())
    return 0 if all(claim.met is not False for claim in report.claims) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
