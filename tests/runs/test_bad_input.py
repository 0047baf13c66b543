"""Wrong input as a user types it: exit code 2, one sentence on stderr, nothing left behind."""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support import ROOT, Command

from textrnn.base.errors import InputError
from textrnn.training.checkpoints import load_checkpoint

SMALL = (
    "data=synthetic",
    "data.synthetic.train_reviews=200",
    "data.synthetic.test_reviews=50",
    "trainer=debug",
    "tracking=none",
    "model.hidden_size=8",
    "model.embedding.size=8",
)


def write_csv(path: Path, rows: Sequence[tuple[object, object]], header: tuple[str, str] = ("text", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def refused(run: Command, workplace: Path, *arguments: str, mentions: str, name: str = "train.py") -> str:
    """Runs a command that must be refused and returns its sentence."""
    before = sorted(workplace.rglob("*"))
    done = run(name, *arguments)
    assert done.returncode == 2, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(mentions, sentences[0]), sentences[0]
    assert sorted(workplace.rglob("*")) == before
    return sentences[0]


@pytest.mark.parametrize(
    ("typed", "mentions"),
    [
        ("model.hiden_size=3", "model.hidden_size"),
        ("++model.hiden_size=3", "model.hidden_size"),
        ("model=transformer", "gru, lstm, rnn"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("trainer.devices=1000", "trainer.devices"),
        ("trainer.max_time=soon", "trainer"),
    ],
)
def test_configuration(cold_script: Command, workplace: Path, typed: str, mentions: str) -> None:
    refused(cold_script, workplace, *SMALL, typed, mentions=mentions)


def test_an_implementation_that_this_machine_cannot_run(
    script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    half = ("model.implementation=compiled", "trainer.precision=bf16-true")
    refused(script, workplace, *SMALL, *half, mentions=r"model\.implementation=auto")
    assert not (Path(environment["XDG_CACHE_HOME"]) / "textrnn" / "stores").exists(), "reviews were read before"


def test_multirun_refuses_before_its_first_job(here: Command, workplace: Path, tmp_path: Path) -> None:
    refused(here, workplace, "-m", *SMALL, "model=gru,transformer", mentions="gru, lstm, rnn")
    # What only a job itself can find out leaves nothing either, so that the same command can be typed again.
    path = write_csv(tmp_path / "few.csv", [("good", 1), ("bad", 0)])
    few = ("-m", f"data.path={path}", "tracking=none", "seed=0,0", "run_dir=jobs")
    done = here("train.py", *few)
    assert (done.returncode, done.stderr.count("too few rows")) == (2, 2), done.stderr
    assert list(workplace.iterdir()) == []


def test_hub_out_of_reach_without_a_store(script: Command, workplace: Path) -> None:
    sentence = refused(script, workplace, "tracking=none", mentions=r"data\.path")
    assert "data=synthetic" in sentence


def test_data_path(script: Command, here: Command, workplace: Path, tmp_path: Path) -> None:
    reviews = [(f"review number {n} is good", n % 2) for n in range(100)]
    empty = tmp_path / "empty"
    empty.mkdir()
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text,label\ncaf\xe9,1\nbad,0\n".encode("latin-1"))
    cases = [
        (tmp_path / "missing", r"data\.path"),
        (empty, r"data\.path"),
        (write_csv(tmp_path / "columns.csv", reviews, ("words", "label")), r"no column 'text' \(columns: words"),
        (write_csv(tmp_path / "labels.csv", [*reviews, ("odd one", "")]), r"row 100 \(.*has no label"),
        (write_csv(tmp_path / "oneclass.csv", [(text, 1) for text, _ in reviews]), "another class too"),
        (latin, "UTF-8|utf-8"),
    ]
    for path, mentions in cases:
        # The reader of a file that is refused is closed with its process.
        run = script if path.is_file() else here
        refused(run, workplace, f"data.path={path}", "tracking=none", mentions=mentions)


LONG = "long review " * 30  # more than the 255 bytes that a name may have


@pytest.mark.parametrize(
    ("name", "typed", "mentions"),
    [
        ("predict.py", (LONG, "runs/first"), "^error: long review"),
        ("evaluate.py", (LONG,), "^error: long review"),
        ("evaluate.py", ("~nosuchuser/run",), "~nosuchuser/run: there is no such home directory"),
        *(
            ("train.py", ("tracking=none", f"{key}='{path}'", *others), f"^error: {key}={path[:11]}")
            for path in (LONG, "~nosuchuser/x.txt")
            for key, *others in (
                ("data.path",),
                ("data.cache_dir", "data=synthetic"),
                ("model.embedding.vectors", "data=synthetic", "model.embedding.kind=vectors"),
                ("run_dir", "data=synthetic"),
                ("resume", "data=synthetic"),
            )
        ),
        ("prepare.py", ("experiment='~nosuchuser/x.yaml'",), "experiment=~nosuchuser/x.yaml: there is no such home"),
        ("train.py", ("run_dir='~/run'", "data=synthetic"), "type run_dir=/.*/home/run "),
    ],
)
def test_paths_that_can_not_be_looked_up(
    here: Command, workplace: Path, name: str, typed: tuple[str, ...], mentions: str
) -> None:
    assert len(refused(here, workplace, *typed, mentions=mentions, name=name)) < 300


def test_run_dir(here: Command, workplace: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    refused(here, workplace, *SMALL, f"run_dir={full}", mentions="run_dir")
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    refused(here, workplace, *SMALL, "run_dir=/proc/run", mentions="run_dir")
    refused(here, workplace, *SMALL, f"run_dir={full / 'thesis.tex' / 'run'}", mentions="run_dir")


def test_online_without_an_account(script: Command, workplace: Path) -> None:
    refused(script, workplace, *SMALL, "tracking=online", mentions="tracking=offline")


class Explosive:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_checkpoints(script: Command, workplace: Path, tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    code = tmp_path / "code.ckpt"
    torch.save({"state_dict": {}, "textrnn": Explosive(target)}, code)
    plain = tmp_path / "plain.ckpt"
    plain.write_bytes(pickle.dumps(Explosive(target)))
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, whole)
    truncated = tmp_path / "truncated.ckpt"
    truncated.write_bytes(whole.read_bytes()[:-500])
    refused(script, workplace, str(code), mentions="code.ckpt", name="evaluate.py")
    refused(script, workplace, str(truncated), "fine", mentions="truncated.ckpt", name="predict.py")
    for path in (code, plain, truncated, whole, tmp_path / "missing.ckpt", tmp_path):
        with pytest.raises(InputError, match=path.name):
            load_checkpoint(path)
    assert not target.exists()


@pytest.mark.usefixtures("undrawn")
def test_resume(here: Command, workplace: Path, tmp_path: Path) -> None:
    refused(here, workplace, "resume=no-such-run", mentions="no-such-run")
    refused(here, workplace, "resume=auto", mentions="run_dir")
    run = tmp_path / "run"
    assert here("train.py", *SMALL, f"run_dir={run}").returncode == 0
    for change, mentions in (
        ("model=lstm", "model.cell can't change .* type model.cell='gru', as it was"),
        ("data.max_length=9", "data.max_length can't change .* type data.max_length=400, as it was"),
        (
            "optimizer.layer_decay=0.5",
            "optimizer.layer_decay can't change .* type optimizer.layer_decay=1.0, as it was",
        ),
        ("optimizer.average=0.9", "optimizer.average can't change .* type optimizer.average=0.0, as it was"),
        ("seed=3", "seed can't change .* type seed=0, as it was"),
        ("early_stopping.monitor=val/loss", "monitor can't change .* type early_stopping.monitor='val/accuracy'"),
    ):
        refused(here, workplace, f"resume={run}", change, mentions=mentions)
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("typed", "mentions"),
    [
        ("trainer.val_check_interval=1000", "an epoch has 4 training batches; type 4 or less"),
        ("trainer.limit_train_batches=0.1", "of the 4 train batches that is not even one"),
        ("trainer.limit_val_batches=0.001", "validation batches"),
        ("trainer.limit_test_batches=0.001", "test batches"),
        ("trainer.overfit_batches=0.001", "train batches"),
        ("trainer.accelerator=tpu", "torch_xla"),
        ("data.segment_size=150 trainer.val_check_interval=2", "a pass's last segment may have fewer batches"),
        ("data.segment_size=150 trainer.limit_train_batches=0.5", "type a number of batches"),
    ],
)
def test_a_trainer_that_the_data_or_the_machine_lacks(
    here: Command, workplace: Path, typed: str, mentions: str
) -> None:
    cache = f"data.cache_dir={workplace.parent / 'cache'}"
    refused(here, workplace, *SMALL, "trainer=cpu", "data.batch_size=50", cache, *typed.split(), mentions=mentions)


def test_predict_reads_one_file(here: Command) -> None:
    twice = here("predict.py", "run", "--file", "a.txt", "--file", "b.txt")
    assert (twice.returncode, twice.stderr) == (2, "error: --file is given 2 times; label one file at a time.\n")


def test_predict_without_a_standard_input(environment: dict[str, str], workplace: Path) -> None:
    closed = f"{sys.executable} {ROOT / 'predict.py'} run --file - <&-"
    done = subprocess.run(
        ["bash", "-c", closed], cwd=workplace, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: --file -: standard input is closed; type the name of a text file.\n"


def test_predict_needs_texts(cold_script: Command, workplace: Path, tmp_path: Path) -> None:
    refused(cold_script, workplace, str(tmp_path), name="predict.py", mentions="--file")
