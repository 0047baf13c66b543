"""Runs that go on elsewhere or otherwise: in a directory that was moved, with other values, from older records."""

from pathlib import Path

import pytest
import torch
from doubles.run_files import SMALL, metrics, summary
from support import Command

pytestmark = pytest.mark.usefixtures("undrawn")

UNLEARNING = (*SMALL, "optimizer.lr=1e-12", "optimizer.schedule=constant", "early_stopping.patience=null")
"""Nothing is learnt: all validations are equal, and the first one stays the best."""


def best_step(run: Path) -> int:
    """The step whose weights are in best.ckpt."""
    step: int = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    return step


def test_a_run_that_was_moved_keeps_its_best_weights(here: Command, workplace: Path) -> None:
    assert here("train.py", *UNLEARNING, "trainer.max_epochs=1", "run_dir=first").returncode == 0
    steps_an_epoch = best_step(workplace / "first")
    (workplace / "first").rename(workplace / "moved")
    done = here("train.py", "resume=moved", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert int(metrics(workplace / "moved")[-1]["step"]) == 3 * steps_an_epoch
    assert best_step(workplace / "moved") == steps_an_epoch
    assert summary(workplace / "moved")["best_step"] == steps_an_epoch
