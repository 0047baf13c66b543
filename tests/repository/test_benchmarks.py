"""The benchmarks: repeats, reports and a short run of each. Tests don't measure speed."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.review_files import write
from rich.console import Console
from support import ROOT
from torch.utils.flop_counter import FlopCounterMode

import gpu
import pages
import run
import tutorials
from gemms import gemms_alone, layer_flops
from report import Claim, Report, Table, number, show
from reviews import representative
from textrnn.data.batches import plan_epoch
from textrnn.model.encoder import RecurrentLayer
from timing import paired, ratios, shares_of_limit, spread
from worker import Worker

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize(
    ("values", "limits", "again", "shares", "busy"),
    [
        ([8.0, 9.0, 9.5], [9.0, 10.0, 8.0], [], [0.8, 0.9, 0.95], False),
        (
            [13.0, 40.0, 71.0],
            [30.0, 31.0, 32.0],
            [27.0] * 3 + [30.0] * 3,
            [0.9] * 3,
            False,
        ),  # a spread that says nothing
        ([34.0] * 3, [10.0] * 3, [27.0] * 3 + [30.0] * 3, [0.9] * 3, False),  # faster than its limit
        ([34.0] * 3, [10.0] * 3, ([34.0] * 3 + [10.0] * 3) * 2, [3.4] * 3, True),
    ],
)
def test_a_share_of_a_limit_is_measured_again_where_the_machine_was_busy(
    values: list[float], limits: list[float], again: list[float], shares: list[float], busy: bool
) -> None:
    left = {
        "rate": [v for n, v in enumerate(again) if n % 6 < 3],
        "limit": [v for n, v in enumerate(again) if n % 6 > 2],
    }
    found, is_busy = shares_of_limit(lambda _: left["rate"].pop(0), lambda _: left["limit"].pop(0), 3, values, limits)
    assert found == pytest.approx(shares)
    assert is_busy == busy
    assert left == {"rate": [], "limit": []}


def make_report() -> Report:
    machine = {"cpu": "a processor", "cores": 2, "threads": 2, "memory_gib": 8, "gpu": None, "system": "Linux"}
    where = {"machine": machine, "versions": {"torch": "2.13"}, "commit": "abc", "date": "2026-01-01"}
    report = Report(benchmark="loop", settings={"repeats": 3, "reviews": "generated"}, where=where)
    report.claims += [
        Claim(name="ours over theirs", values=[61.23456789, 59.0, 70.0], at_least=60.0),
        Claim(name="waiting", values=[2.0], unit="%", at_most=1.0),
        Claim(name="no target", values=[1.0]),
    ]
    table = Table(title="steps", unit="tokens/s")
    table.add("ours", "gru", [123456.0, 123457.0])
    table.add("ours", "rnn", [1.5])
    table.add("theirs", "gru", [2000.0])
    report.tables.append(table)
    return report


def test_a_repeat_measures_every_variant_once_in_a_rotated_order() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value

    variants = {name: lambda repeat, name=name: measure(name, ord(name) + repeat) for name in "abc"}
    values = paired(variants, 4)
    assert "".join(order) == "abcbcacababc"
    assert values["b"] == [98, 99, 100, 101]
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert spread([5.0, 1.0, 2.0]) == (2.0, 1.0, 5.0)


def test_a_claim_is_held_against_its_target_by_the_median() -> None:
    claims = make_report().claims
    assert [claim.met for claim in claims] == [True, False, None]
    assert [claim.target for claim in claims] == ["≥ 60 ×", "≤ 1 %", ""]
    assert [number(value) for value in (0.012345, 12.345, 1234.5, 1234567.0)] == [
        "0.0123",
        "12.3",
        "1,230",
        "1,230,000",
    ]


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = make_report()
    report.write(tmp_path / "made" / "loop.json")
    read = Report.read(tmp_path / "made" / "loop.json")
    assert read.claims[0].values == [61.2346, 59.0, 70.0]
    read.claims[0].values = report.claims[0].values
    assert read == report
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["loop.json"]


def test_a_report_is_shown_with_its_machine_claims_and_tables() -> None:
    output = io.StringIO()
    show(make_report(), Console(file=output, width=120))
    for part in ("a processor", "torch 2.13", "61.2 ×", "59 to 70", "missed", "steps (tokens/s)", "123,000"):
        assert part in output.getvalue()


def test_the_pages_show_the_results(tmp_path: Path) -> None:
    assert pages.render(["startup"], tmp_path).startswith("No results yet")
    make_report().write(tmp_path / "loop.json")
    part = pages.render(["startup", "loop"], tmp_path)
    assert "| ours over theirs | 61.2 × | 59 to 70 | ≥ 60 ×, met |" in part
    assert "| theirs | 2,000 |  |" in part
    page = f"above\n{pages.BEGIN}\nold\n{pages.END}\nbelow\n"
    assert pages.replace_part(page, part) == f"above\n{pages.BEGIN}\n{part}\n{pages.END}\nbelow\n"
    with pytest.raises(ValueError, match="benchmarks: begin"):
        pages.replace_part("a page without markers", part)


@pytest.mark.parametrize("path", pages.PAGES, ids=lambda path: path.stem)
def test_the_pages_are_up_to_date(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == pages.replace_part(page, pages.render(pages.PAGES[path])), "type: python benchmarks/pages.py"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_hold_no_paths_or_addresses_of_the_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["benchmark"] == path.stem
    for private in ("/home", "/root", "/tmp", "/work", "://"):
        assert private not in text


def test_a_worker_answers_and_its_death_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "double.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\nfrom worker import serve\n"
        "def answer(number):\n    print('a library prints')\n    return [2 * number, 1 / number]\nserve(answer)\n"
    )
    with Worker(str(script)) as worker:
        assert worker.ask(number=4) == [8, 0.25]
        assert worker.ask(number=1) == [2, 1.0]
    with Worker(str(script)) as worker, pytest.raises(RuntimeError, match=r"double.py ended with 1"):
        worker.ask(number=0)


def test_representative_steps_are_of_all_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=6400)
    plan = plan_epoch(lengths, batch_size=64, seed=0, epoch=0)
    steps = representative(plan, lengths, 4, seed=1)
    means = [float(lengths[step].mean()) for step in steps]
    assert means == sorted(means)
    assert means[0] < 130
    assert means[-1] > 370
    assert len(representative(plan, lengths, 1000, seed=1)) == len(plan)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_products_are_those_of_a_layer(cell: str) -> None:
    time, batch, inputs, hidden = 7, 3, 5, 4
    flops = layer_flops(cell, inputs, hidden, time=time, batch=batch, directions=2)
    layer = RecurrentLayer(cell, inputs, hidden, bidirectional=True, implementation="cell")
    steps = torch.randn(batch, time, inputs, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(steps, torch.full((batch,), time)).sum().backward()
    # The first state is no parameter, so its gradient is left out.
    assert counter.get_total_flops() == flops * (1 - hidden / (3 * time * (inputs + hidden)))
    products, copies = gemms_alone(cell, inputs, hidden, time=time, batch=batch, directions=2)
    products()
    assert copies == torch.get_num_threads()


def assert_reported(name: str, folder: Path) -> None:
    """Assert that a benchmark has results, and that the pages can show them."""
    report = Report.read(folder / f"{name}.json")
    assert report.claims
    assert all(value > 0 for claim in report.claims for value in claim.values if name != "losses")
    assert pages.HEADINGS[name] in pages.render([name], folder)


def test_recipes_that_are_not_measured_again_are_kept_on_the_same_machine(tmp_path: Path) -> None:
    def empty() -> Report:
        report = make_report()
        report.claims, report.tables = [], [Table(title="an epoch's training", unit="s")]
        return report

    before, now = empty(), empty()
    for system in ("keras_lstm", "torch_lstm_wandb"):
        before.claims.append(Claim(name=f"{system}: epochs", values=[2.0]))
        before.tables[0].add("ours", system, [3.0])
    before.where["versions"]["tensorflow"] = "2.21"  # a peer's process reports its version later
    before.write(tmp_path / "tutorials.json")
    tutorials.take_over(now, tmp_path / "tutorials.json", ["keras_lstm"])
    assert [claim.name for claim in now.claims] == ["torch_lstm_wandb: epochs"]
    assert now.tables[0].cells == {"ours": {"torch_lstm_wandb": [3.0]}}
    elsewhere = empty()
    elsewhere.where["machine"]["cpu"] = "another one"
    with pytest.raises(SystemExit, match="another machine"):
        tutorials.take_over(elsewhere, tmp_path / "tutorials.json", ["keras_lstm"])


QUICK = ("--quick", "--repeats", "1", "--output")


@pytest.mark.slow
def test_the_command_runs_a_benchmark(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "loop", *QUICK, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert_reported("loop", tmp_path)


PEERS = ("recurrence", "tutorials")
"""Benchmarks with peers, which are measured or reported as missing."""


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "name",
    [
        *("recurrence", "losses", "pipeline", "startup", "tutorials", "cost", "memory", "tracking"),
        *("lookup", "serving", "bodies", "parity", "scaling", "stragglers"),
    ],
)
def test_each_benchmark_runs(name: str, tmp_path: Path) -> None:
    assert run.main([name, *(["--peers"] if name in PEERS else []), *QUICK, str(tmp_path)]) == 0
    assert_reported(name, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_the_benchmark_of_a_gpu_runs_on_a_processor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert gpu.main([]) == 2
        assert "torch sees no GPU" in capsys.readouterr().err
    command = ["--quick", "--device", "cpu", "--output", str(tmp_path)]
    assert gpu.main([*command, "--minutes", "-1"]) == 0
    assert capsys.readouterr().out.count("left out") == 6
    assert gpu.main(command) == 0
    report = Report.read(tmp_path / "gpu.json")
    assert report.settings["two ranks on one device"] == "work"
    assert [table.title for table in report.tables] == [
        "training steps, 8 units in both directions",
        "whole runs of train.py, model=gru",
    ]
    assert len(report.claims) == 6 + 2 + 3 + 2
    assert pages.HEADINGS["gpu"] in pages.render(["gpu"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["one", "many"])
def test_a_linear_model_on_the_users_own_files(label: str, environment: dict[str, str], tmp_path: Path) -> None:
    sets: tuple[list[str], ...] = ([], ["good"], ["good", "long"], ["long"])
    names: Any = ["none", "good", "both", "long"] if label == "one" else sets
    rows = [(f"a film {' '.join(words)} {n}", names[n % 4]) for n, words in enumerate(sets * 40)]
    path = write(tmp_path / "films.jsonl", rows)
    command = [sys.executable, str(ROOT / "benchmarks" / "baseline.py"), f"data.path={path}"]
    command += [f"data.labels_per_text={label}", f"data.cache_dir={tmp_path}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "val 1.0000, test 1.0000" in done.stdout
