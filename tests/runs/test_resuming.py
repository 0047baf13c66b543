"""Runs that go on elsewhere or otherwise: in a directory that was moved, with other values."""

from pathlib import Path

import pytest
import torch
from doubles.run_files import SMALL, metrics, summary
from support import Command

pytestmark = pytest.mark.usefixtures("undrawn")

UNLEARNING = (*SMALL, "optimizer.lr=1e-12", "optimizer.schedule=constant")
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


def test_a_run_without_its_best_weights_is_not_taken_for_its_last_ones(here: Command, workplace: Path) -> None:
    """No later epoch beats them, so that the test would be of the last weights."""
    assert here("train.py", *UNLEARNING, "trainer.max_epochs=1", "run_dir=run").returncode == 0
    kept = (workplace / "run" / "checkpoints" / "best.ckpt").rename(workplace / "kept.ckpt")
    before = {path: path.read_bytes() for path in (workplace / "run").rglob("*.*") if path.name != "train.log"}
    refused = here("train.py", "resume=run", "trainer.max_epochs=2")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "error: resume: run/checkpoints/best.ckpt, the best weights of the run so far, is missing; restore it, or type "
        "another run_dir."
    )
    assert {path: path.read_bytes() for path in before} == before
    refused = here("predict.py", "run", "a film")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "error: run/checkpoints/best.ckpt is gone, the best weights of the run; run/checkpoints/last.ckpt has its last "
        "ones."
    )
    assert here("predict.py", "run/checkpoints/last.ckpt", "a film").returncode == 0
    kept.rename(workplace / "run" / "checkpoints" / "best.ckpt")
    assert here("train.py", "resume=run", "trainer.max_epochs=2").returncode == 0


def test_a_run_without_a_validation_has_no_best_weights(here: Command, workplace: Path) -> None:
    assert (
        here("train.py", *SMALL, "trainer.limit_val_batches=0", "trainer.max_epochs=1", "run_dir=run").returncode == 0
    )
    assert here("train.py", "resume=run", "trainer.max_epochs=2").returncode == 0
    assert {row["epoch"] for row in metrics(workplace / "run") if row["train/loss"]} == {"0", "1"}


def test_what_is_typed_with_resume_holds(here: Command, workplace: Path) -> None:
    run = workplace / "run"
    command = (*UNLEARNING, "early_stopping.patience=1", "trainer.max_epochs=4", "optimizer.warmup_steps=0")
    assert here("train.py", *command, "run_dir=run").returncode == 0
    before = metrics(run)
    assert {row["epoch"] for row in before} == {"0", "1"}, "stopped early"
    again = here("train.py", "resume=run")
    assert "this run is finished; type a larger early_stopping.patience to train on" in again.stderr
    done = here("train.py", "resume=run", "early_stopping.patience=3", "optimizer.lr=0.5")
    assert done.returncode == 0, done.stderr
    after = [row for row in metrics(run) if row["lr"] and row not in before]
    assert {row["epoch"] for row in after} == {"2", "3"}
    assert {float(row["lr"]) for row in after} == {0.5}
