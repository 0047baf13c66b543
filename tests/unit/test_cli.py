"""What a command imports: what answers at once waits for no library that the answer doesn't need."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint

from textrnn.base.exits import escape_what_stdout_lacks
from textrnn.data.tokenizer import train_tokenizer
from textrnn.training.checkpoints import load_checkpoint

TRAINING = (
    "pytorch_lightning",
    "lightning_fabric",
    "torchmetrics",
    "datasets",
    "wandb",
    "matplotlib",
    "pandas",
    "spacy",
)
PROGRAM = """
import json, sys
import textrnn.cli
verb, *argv = json.loads(sys.argv[1])
try:
    code = textrnn.cli.run(verb, argv)
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def imported(arguments: Sequence[str], environment: dict[str, str], workplace: Path, *, code: int) -> set[str]:
    """The modules that a process has loaded when its verb, the first of `arguments`, ends with `code`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        cwd=workplace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint as `train.py` writes it, as far as it is read."""
    return write_checkpoint(tmp_path / "best.ckpt", train_tokenizer(["a fine film", "a dull film"], "word", 10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "--help"], 0),
        (["train", "--cfg", "job"], 0),
        (["train", "model.hiden_size=64"], 2),
        (["prepare", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["predict", "a-run"], 2),
        (["sweep", "--help"], 0),
        (["sweep", "no-such-file.yaml"], 2),
    ],
    ids=["help", "configuration", "typo", "prepare", "evaluate", "predict", "sweep", "no sweep"],
)
def test_command_lines_are_read_without_torch(
    arguments: Sequence[str], code: int, environment: dict[str, str], workplace: Path
) -> None:
    assert not imported(arguments, environment, workplace, code=code) & {"torch", *TRAINING}


@pytest.mark.slow
def test_predict_waits_for_torch_alone(checkpoint: Path, environment: dict[str, str], workplace: Path) -> None:
    modules = imported(["predict", str(checkpoint), "a fine film"], environment, workplace, code=0)
    assert "torch" in modules
    assert not modules & set(TRAINING)


@pytest.mark.slow
def test_evaluate_refuses_a_run_without_what_measures(environment: dict[str, str], workplace: Path) -> None:
    assert not imported(["evaluate", "no-such-run"], environment, workplace, code=2) & set(TRAINING)


def test_reading_a_checkpoint_leaves_the_random_state(checkpoint: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    read = load_checkpoint(checkpoint)
    weights = read.classifier().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(read.state_dict[f"model.{name}"], tensor) for name, tensor in weights.items())


def test_what_the_terminals_encoding_lacks_costs_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))

    escape_what_stdout_lacks()
    print("90.1 ± 0.5", flush=True)
    assert printed.getvalue() == b"90.1 \\xb1 0.5\n"
