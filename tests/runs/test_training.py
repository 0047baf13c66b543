"""Whole runs through the entry scripts: what they leave, that they repeat, and that a kill costs nothing."""

import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from doubles.run_files import (
    LONGEST,
    SMALL,
    json_of,
    last_step,
    metrics,
    predictions,
    start,
    summary,
    wait_for_step,
)
from support import Command

from textrnn.data.store import Store


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_run_leaves_what_the_contract_says(cold_script: Command, here: Command, workplace: Path, cell: str) -> None:
    tracked = cell == "gru"
    train = cold_script if tracked else here
    done = train("train.py", *SMALL, f"model={cell}", *(["tracking=auto"] if tracked else []), "seed=0")
    assert done.returncode == 0, done.stderr
    last = done.stdout.rstrip().splitlines()[-1]
    assert re.fullmatch(rf"run directory: runs/\d{{8}}-\d{{6}}-{cell}-s0-\w{{8}}", last)
    run = workplace / last.removeprefix("run directory: ")
    for name in ("config.yaml", "run.json", "metrics.csv", "summary.json", "curves.png", "train.log"):
        assert (run / name).stat().st_size > 0, name
    names = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    assert names | {"train/grad_norm", "train/tokens_per_second", "parameters", "tokens", "seconds"} <= set(
        json_of(run / "summary.json")
    )
    identity = json_of(run / "run.json")
    assert identity["id"] == run.name.rpartition("-")[2]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["cell"] == cell
    assert config["seed"] == identity["seed"] == 0
    assert (run / "wandb").is_dir() == tracked
    assert ("wandb leet" in done.stdout) == tracked
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(run / "checkpoints" / name, weights_only=True)
        assert checkpoint["textrnn"]["config"]["model"]["cell"] == cell
        assert checkpoint["textrnn"]["identity"]["id"] == identity["id"]
        assert json.loads(checkpoint["textrnn"]["tokenizer"])


def test_one_seed_gives_one_result_and_another_another(script: Command, here: Command, workplace: Path) -> None:
    for train, name, seed in ((script, "a", 0), (here, "c", 1), (here, "b", 0)):
        assert train("train.py", *SMALL, f"seed={seed}", f"run_dir={name}").returncode == 0
    assert metrics(workplace / "a") == metrics(workplace / "b")
    assert metrics(workplace / "a") != metrics(workplace / "c")
    assert summary(workplace / "a") == summary(workplace / "b")


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_diverges_says_so(here: Command, workplace: Path) -> None:
    done = here("train.py", *SMALL, "optimizer.lr=1e30", "optimizer.warmup_steps=0", "run_dir=run")
    assert done.returncode == 0, done.stderr
    assert "val/loss: NaN, so the run has diverged; try a smaller optimizer.lr" in done.stderr


def test_resume_continues_the_same_run(here: Command, workplace: Path) -> None:
    assert here("train.py", *SMALL, "trainer.max_epochs=3", "run_dir=whole").returncode == 0
    constant = (*SMALL, "optimizer.schedule=constant", "run_dir=parts", "resume=auto")
    assert here("train.py", *constant).returncode == 0
    identity = json_of(workplace / "parts" / "run.json")
    again = here("train.py", *constant)
    assert again.returncode == 0
    assert "this run is finished" in again.stderr
    more = here("train.py", "resume=parts", "trainer.max_epochs=3")
    assert more.returncode == 0, more.stderr
    assert json_of(workplace / "parts" / "run.json") == identity
    steps = [int(row["step"]) for row in metrics(workplace / "parts")]
    assert steps == sorted(set(steps))
    assert steps == [int(row["step"]) for row in metrics(workplace / "whole")]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_killed_and_signalled_runs_end_as_if_undisturbed(
    here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    run, whole = workplace / "disturbed", workplace / "whole"
    assert here("train.py", *LONGEST, "run_dir=whole").returncode == 0
    moment = random.Random(0)
    for step, number, code in (
        *((1, signal.SIGKILL, -9), (15, signal.SIGTERM, 75), (30, signal.SIGKILL, -9)),
        *((50, signal.SIGKILL, -9), (70, signal.SIGINT, 130), (90, signal.SIGKILL, -9)),
    ):
        before = last_step(run)
        process = start((*LONGEST, "run_dir=disturbed"), workplace, environment)
        wait_for_step(run, max(step, before + 1), process)
        time.sleep(moment.random() / 10)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        if code > 0:
            assert json_of(run / "summary.json")["status"] == ("preempted" if code == 75 else "interrupted")
    done = here("train.py", *LONGEST, "run_dir=disturbed")
    assert done.returncode == 0, done.stderr
    assert metrics(run) == metrics(whole)
    assert summary(run) == summary(whole)
    assert predictions(run) == predictions(whole)
    assert not list(run.rglob("*.tmp"))


def test_a_directory_in_use_is_refused(here: Command, workplace: Path, environment: dict[str, str]) -> None:
    process = start(
        (*SMALL, "trainer.max_epochs=1000", "early_stopping.patience=null", "run_dir=used"), workplace, environment
    )
    wait_for_step(workplace / "used", 1, process)
    done = here("train.py", *SMALL, "run_dir=used", "resume=auto")
    process.kill()
    process.wait()
    assert done.returncode == 2
    assert "in use" in done.stderr


def test_a_crash_leaves_its_traceback_and_exit_code_1(script: Command, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import textrnn.data.batches as b\ndef broken(*a, **k): raise RuntimeError('planted')\nb.collate = broken\n"
    )
    done = script("train.py", *SMALL, "run_dir=crashed", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    log = (workplace / "crashed" / "train.log").read_text()
    assert "Traceback" in log
    assert "planted" in log
    assert json_of(workplace / "crashed" / "summary.json")["status"] == "failed"


@pytest.mark.usefixtures("undrawn")
def test_multirun_makes_one_run_a_job_and_survives_a_failing_one(here: Command, workplace: Path) -> None:
    done = here("train.py", "-m", *SMALL, "trainer.max_epochs=1", "model=rnn,gru", 'run_dir="it\'s"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("2 of 2 runs done: it's")
    assert [json_of(workplace / "it's" / n / "summary.json")["status"] for n in "01"] == ["finished"] * 2
    groups = {json_of(workplace / "it's" / n / "run.json")["group"] for n in "01"}
    assert groups == {"it's"}
    again = [*SMALL, "trainer.max_epochs=1", "model=rnn,lstm,gru", 'run_dir="it\'s"', "resume=auto"]
    metrics = {n: (workplace / "it's" / n / "metrics.csv").read_bytes() for n in "01"}
    (workplace / "it's" / "0" / "run.json").write_text("not json")
    partly = here("train.py", "-m", *again)
    assert partly.returncode == 2
    assert "2 of 3 runs done: it's" in partly.stdout
    # Each job is where it was, and only the new one was trained.
    recorded = json.loads((workplace / "it's" / "jobs.json").read_text())
    assert [recorded[n].get("model.cell", "gru") for n in "012"] == ["rnn", "gru", "lstm"]
    assert json_of(workplace / "it's" / "2" / "summary.json")["status"] == "finished"
    assert metrics == {n: (workplace / "it's" / n / "metrics.csv").read_bytes() for n in "01"}
    with (workplace / "it's" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["seeds"], row["unfinished"]) for row in rows] == [
        *(("model=rnn", "", "1"), ("model=lstm", "0", "0"), ("model=gru", "0", "0")),
    ]


def second_process(first: subprocess.Popen[bytes]) -> int:
    """The process of rank 1, as soon as there is one."""
    deadline = time.monotonic() + 90
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # git, say, which is soon gone
                if b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                    return int(child)
        time.sleep(0.01)
    raise AssertionError("no second process was started")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_signal_to_one_of_two_processes_ends_both_and_one_goes_on(
    here: Command, workplace: Path, environment: dict[str, str]
) -> None:
    run, epochs = workplace / "run", 20
    command = (*SMALL, f"trainer.max_epochs={epochs}", "early_stopping.patience=null", "run_dir=run", "resume=auto")
    two = (*command, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    process = start(two, workplace, environment)
    os.kill(second_process(process), signal.SIGTERM)  # while Python starts
    assert process.wait(timeout=90) == 75
    assert not (run / "checkpoints" / "last.ckpt").exists()
    process = start(two, workplace, environment)
    wait_for_step(run, 20, process)
    os.kill(second_process(process), signal.SIGUSR1)
    assert process.wait(timeout=90) == 75
    assert (run / "checkpoints" / "last.ckpt").is_file()
    done = here("train.py", *command)
    assert done.returncode == 0, done.stderr
    rows = metrics(run)
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(2, 9 * epochs + 1, 2))
    assert sum(bool(row["val/loss"]) for row in rows) == epochs
    (store,) = Path(environment["XDG_CACHE_HOME"]).glob("textrnn/stores/*/")
    lengths = Store(store).split("train").lengths.clip(max=60)
    assert summary(run)["tokens"] == epochs * lengths.sum()
