"""`hydra/launcher=slurm` without a SLURM: its settings, and where it is refused."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from support import Command

from textrnn.base.errors import InputError
from textrnn.config.compose import compose, compose_jobs, parse_command_line, slurm_launcher
from textrnn.config.schema import LauncherConfig


@pytest.fixture(autouse=True)
def login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is needed seems to be there."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def settings(*argv: str) -> dict[str, object] | None:
    command_line = parse_command_line(argv)
    compose_jobs(command_line)
    return slurm_launcher(command_line)


def refusal(*argv: str) -> str:
    with pytest.raises(InputError) as caught:
        settings(*argv)
    return str(caught.value)


def test_the_yamls_values_are_the_schemas() -> None:
    assert settings("-m", "hydra/launcher=slurm") == asdict(LauncherConfig())


def test_what_is_typed_holds_for_all_jobs() -> None:
    typed = ("hydra.launcher.partition=a100", "+hydra.launcher.additional_parameters.reservation=films")
    asked = settings("-m", "hydra/launcher=slurm", *typed, "model=gru,rnn")
    assert asked is not None
    assert (asked["partition"], asked["additional_parameters"]) == ("a100", {"reservation": "films"})
    assert "one value of each key" in refusal("-m", "hydra/launcher=slurm", "hydra.launcher.mem_gb=8,16")


@pytest.mark.slow
def test_jobs_get_the_directory_and_the_group_of_any_name(monkeypatch: pytest.MonkeyPatch, here: Command) -> None:
    launched: list[Sequence[str]] = []

    def launch(train: object, jobs: Sequence[Sequence[str]], *_: object) -> list[int]:
        launched.extend(jobs)
        return [0] * len(jobs)

    slurm = SimpleNamespace(launch=launch, refuse_while_queued=lambda folder: None)
    monkeypatch.setitem(sys.modules, "textrnn.multirun.slurm_jobs", slurm)
    done = here("train.py", "-m", "hydra/launcher=slurm", "model=gru,rnn", 'run_dir="runs/it\'s"')
    assert done.returncode == 0, done.stderr
    configs = [compose(job) for job in launched]
    assert [config.run_dir for config in configs] == ["runs/it's/0", "runs/it's/1"]
    assert [config.tracking.group for config in configs] == ["it's", "it's"]


def test_it_is_off_unless_typed() -> None:
    assert settings("model=gru") is None
    assert settings("-m", "hydra/launcher=basic", "model=gru,rnn") is None


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("hydra.launcher.mem=8", "there is no key hydra.launcher.mem; did you mean mem_gb?"),
        ("hydra.launcher.nodes=two", "nodes=two: must be an integer; type for example hydra.launcher.nodes=1."),
        ("hydra.launcher._target_=os.system", "only hydra/launcher and hydra.launcher.* can be set"),
        ("hydra/launcher=slur", "there are slurm, basic."),
    ],
)
def test_wrong_settings_are_refused(typed: str, answer: str) -> None:
    assert answer in refusal("-m", "hydra/launcher=slurm", typed)


def test_one_run_needs_no_launcher() -> None:
    assert "train.sbatch" in refusal("hydra/launcher=slurm")


def test_without_submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert 'pip install -c constraints.txt -e ".[slurm]"' in refusal("-m", "hydra/launcher=slurm")


def test_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no sbatch here" in refusal("-m", "hydra/launcher=slurm")
