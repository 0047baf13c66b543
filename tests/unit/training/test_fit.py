"""The trainer of a run."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from doubles.tiny_training import identity
from lightning_fabric.accelerators.mps import MPSAccelerator as FabricMPSAccelerator
from pytorch_lightning.accelerators import CPUAccelerator, MPSAccelerator

from textrnn.base.console import quiet_lightning
from textrnn.config.schema import Config, ModelConfig, TrainerConfig
from textrnn.distributed.launch import Launch
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.run_directory import RunDirectory
from textrnn.training.fit import _offer_bfloat16, _trainer


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make Lightning take this machine for a Mac; it remembers its first look at the machine."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    FabricMPSAccelerator.is_available.cache_clear()
    yield
    FabricMPSAccelerator.is_available.cache_clear()


@pytest.mark.usefixtures("mac")
def test_on_a_mac_auto_is_the_processor_and_a_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert MPSAccelerator.is_available(), "Lightning takes this machine for a Mac"
    caplog.set_level("INFO", logger="textrnn")
    quiet_lightning()

    def accelerator(typed: str, launch: Launch) -> type:
        config = Config(trainer=TrainerConfig(accelerator=typed))
        directory, logger = RunDirectory(tmp_path, None), RunLogger(tmp_path, identity())
        return type(_trainer(config, [], logger, directory, launch).accelerator)

    assert accelerator("auto", Launch()) is CPUAccelerator
    assert [line for line in caplog.messages if "trainer.accelerator=mps" in line] == [
        "this run trains on the processor; trainer.accelerator=mps would use this Mac's GPU"
    ]
    caplog.clear()
    assert accelerator("mps", Launch()) is MPSAccelerator
    assert accelerator("cpu", Launch()) is CPUAccelerator
    assert "trainer.accelerator=mps" not in caplog.text


@pytest.mark.parametrize(
    ("cell", "reviews", "epochs", "precision", "offered"),
    [
        ("gru", 5_000, 3, "32-true", True),
        ("gru", 5_000, 3, "bf16-mixed", False),
        ("gru", 4_000, 3, "32-true", False),
        ("lstm", 4_200, 3, "32", True),
        ("rnn", 5_000, 3, "32-true", False),
    ],
)
def test_bfloat16_is_offered_to_long_runs_where_the_processor_has_it(
    cell: str,
    reviews: int,
    epochs: int,
    precision: str,
    offered: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="textrnn")
    split: Any = SimpleNamespace(lengths=np.full(reviews, 1000))  # of which 400 tokens are read
    trainer = TrainerConfig(accelerator="cpu", max_epochs=epochs, precision=precision)
    config = Config(model=ModelConfig(cell=cell), trainer=trainer)
    for has in (False, True):
        monkeypatch.setattr("textrnn.training.precision.computes_in_bfloat16", lambda has=has: has)
        _offer_bfloat16(config, split)
        assert ("type trainer.precision=auto" in caplog.text) == (has and offered)
