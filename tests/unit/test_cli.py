"""What a command line answers at once: help, version, completion, and no library that the answer doesn't need."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint
from support import ROOT, Command

from textrnn import cli
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
        (["explain", "a-run"], 2),
        (["sweep", "--help"], 0),
        (["sweep", "no-such-file.yaml"], 2),
        (["runs", "best", "."], 2),
        (["compare", "no-such-run"], 2),
        (["report", "a-run"], 2),
    ],
    ids=[
        *("help", "configuration", "typo", "prepare", "evaluate", "predict", "explain", "sweep", "no sweep"),
        *("runs", "compare", "report"),
    ],
)
def test_command_lines_are_read_without_torch(
    arguments: Sequence[str], code: int, environment: dict[str, str], workplace: Path
) -> None:
    assert not imported(arguments, environment, workplace, code=code) & {"torch", *TRAINING}


def test_on_windows_a_sentence_names_wsl() -> None:
    windows = "import sys; sys.platform = 'win32'; sys.modules.update(fcntl=None, signal=None); import textrnn.cli"
    done = subprocess.run([sys.executable, "-c", windows], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: textrnn doesn't run on Windows itself; type wsl --install, then use it in WSL.\n"


@pytest.mark.slow
def test_predict_waits_for_torch_alone(checkpoint: Path, environment: dict[str, str], workplace: Path) -> None:
    modules = imported(["predict", str(checkpoint), "a fine film"], environment, workplace, code=0)
    assert "torch" in modules
    assert not modules & set(TRAINING)


@pytest.mark.slow
def test_evaluate_refuses_a_run_without_what_measures(environment: dict[str, str], workplace: Path) -> None:
    assert not imported(["evaluate", "no-such-run"], environment, workplace, code=2) & set(TRAINING)


def test_help_lists_the_commands_and_each_has_examples(
    here: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["textrnn", "--help"])
    assert cli.main() == 0
    listed = capsys.readouterr().out
    helps = {name: here(f"{name}.py", "model=lstm", "--help", COLUMNS="80").stdout for name in ("train", "prepare")}
    for name in cli.COMMANDS.keys() - helps:
        with contextlib.suppress(SystemExit):  # argparse ends so
            assert cli.run(name, ["--help"]) == 0
        helps[name] = capsys.readouterr().out
    for name, what in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", listed, re.MULTILINE)
        typed = f"python {name}.py" if (ROOT / f"{name}.py").is_file() else f"textrnn {name}"
        assert len(re.findall(rf"\n  {re.escape(typed)}\b", helps[name])) >= 3
        assert max(map(len, helps[name].splitlines())) <= 80
    assert "  optimizer.lr=0.008  " in helps["train"]  # as model=lstm has it
    assert "  data.tokenizer=word  " in helps["prepare"]
    assert not re.search("^  (optimizer|trainer|data.batch_size)", helps["prepare"], re.MULTILINE)


@pytest.mark.parametrize("typed", [["--version"], ["train", "model=gru", "--version"], ["evaluate", "--version"]])
def test_the_version_is_that_of_this_package(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["textrnn", *typed])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"textrnn {version('textrnn')}\n"


def test_keys_are_completed_by_the_shell(here: Command) -> None:
    typed = {"COMP_LINE": "train.py model=", "COMP_POINT": "15"}
    completed = here("train.py", "-sc", "query=bash", **typed)
    assert (completed.returncode, completed.stdout.split()) == (0, ["model=gru", "model=lstm", "model=rnn"])


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
