"""`trainer.precision=auto`: what it chooses, and that a run keeps what was chosen when it began."""

from pathlib import Path
from typing import Any

import pytest
import torch

from textrnn.commands.train import train
from textrnn.config.compose import load_config
from textrnn.config.schema import Config, ModelConfig, TrainerConfig
from textrnn.distributed.launch import SHARED_RUN, Launch
from textrnn.distributed.ranks import Ranks
from textrnn.training import claim, precision
from textrnn.training.precision import automatic_precision

AUTO = TrainerConfig(accelerator="cpu", precision="auto")


def has_bfloat16(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda: has)


@pytest.mark.parametrize(
    ("model", "has", "chosen"),
    [
        ({"cell": "gru"}, True, "bf16-mixed"),
        ({"cell": "lstm", "implementation": "compiled"}, True, "bf16-mixed"),
        ({"cell": "gru"}, False, "32-true"),
        ({"cell": "rnn"}, True, "32-true"),
        ({"cell": "gru", "implementation": "cell"}, True, "32-true"),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster(
    model: dict[str, Any], has: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bfloat16(monkeypatch, has)
    assert automatic_precision(Config(model=ModelConfig(**model), trainer=AUTO))[0] == chosen


@pytest.mark.parametrize(("accelerator", "found"), [("auto", True), ("gpu", False), ("auto", False)])
def test_a_gpu_has_float32(accelerator: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    has_bfloat16(monkeypatch, True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: found)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = Config(trainer=TrainerConfig(accelerator=accelerator, precision="auto"))
    assert automatic_precision(config)[0] == ("32-true" if found or accelerator == "gpu" else "bf16-mixed")


def test_a_resumed_run_keeps_what_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where another machine goes on with it."""
    caplog.set_level("INFO", logger="textrnn")
    has_bfloat16(monkeypatch, True)
    monkeypatch.delenv(SHARED_RUN, raising=False)
    config = Config(run_dir=str(tmp_path / "run"), trainer=AUTO)
    begun, directory, _ = claim.claim(config, ["train.py"], Ranks(Launch()))
    with directory:
        assert begun.trainer.precision == "bf16-mixed"
        claim.write_config(directory, begun)
    assert "trainer.precision=bf16-mixed, as this processor multiplies bfloat16" in caplog.text
    has_bfloat16(monkeypatch, False)
    monkeypatch.delenv(SHARED_RUN, raising=False)
    config.resume = "auto"
    resumed, directory, _ = claim.claim(config, ["train.py"], Ranks(Launch()))
    with directory:
        assert resumed.trainer.precision == "bf16-mixed"
    assert load_config(directory.config_yaml).trainer.precision == "bf16-mixed"


def test_a_process_that_lightning_starts_has_the_precision_of_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_bfloat16(monkeypatch, True)
    monkeypatch.delenv(SHARED_RUN, raising=False)
    config = Config(run_dir=str(tmp_path / "run"), trainer=AUTO)
    _, directory, _ = claim.claim(config, ["train.py"], Ranks(Launch()))
    has_bfloat16(monkeypatch, False)
    with directory:
        child, _, _ = claim.claim(config, ["train.py"], Ranks(Launch(rank=1, local_rank=1, world_size=2)))
    assert child.trainer.precision == "bf16-mixed"


def test_jobs_of_slurm_need_a_typed_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("textrnn.commands.train.slurm_launcher", lambda command_line: {})
    assert train(["-m", "seed=0,1", "trainer.precision=auto", f"run_dir={tmp_path / 'runs'}"], "") == 2
    assert "type trainer.precision=bf16-mixed or trainer.precision=32-true for all of them" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
