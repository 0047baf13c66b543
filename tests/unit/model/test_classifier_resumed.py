"""A classifier whose training goes on: from the weights, the optimiser's state and the sums of an undisturbed one."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import Batch, History, Loader, as_rank, fit, make_batch, make_module, make_trainer

from textrnn.config.schema import OptimizerConfig
from textrnn.model.classifier import ReviewClassifier, learning_rate_factor
from textrnn.training.exact_resume import ResumedLoops


class SaveAfter(pl.Callback):
    """Writes a checkpoint after so many batches."""

    def __init__(self, path: Path, batches: int) -> None:
        self.path, self.batches = path, batches

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.path)


class LaterBatches(Loader):
    """The batches after those that an interrupted run has read; the two methods make it resumable to Lightning."""

    def __init__(self, batches: list[Batch], read: int) -> None:
        super().__init__(batches)
        self.read = read

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches[self.read :])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class EnoughBatches(LaterBatches):
    """The same, and then all batches, of which later epochs take as many as they are long."""

    def __iter__(self) -> Iterator[Batch]:
        return chain(self.batches[self.read :], self.batches)


def go_on(trainer: pl.Trainer, module: ReviewClassifier, batches: list[Batch], checkpoint: Path, read: int) -> None:
    """Train from a checkpoint that was taken after `read` of the batches."""
    later = LaterBatches(batches, read)
    trainer.fit(module, later, Loader(batches), ckpt_path=checkpoint, weights_only=True)


@pytest.mark.parametrize(("accumulate", "read", "virtual"), [(1, 3, 0), (1, 4, 0), (2, 4, 0), (2, 6, 0), (1, 3, 0.3)])
def test_resumed_run_is_the_uninterrupted_run(tmp_path: Path, accumulate: int, read: int, virtual: float) -> None:
    batches = [make_batch(6, seed=seed) for seed in range(8)]
    if virtual:
        batches = [{**batch, "unlabelled": make_batch(3, seed=9 + seed)} for seed, batch in enumerate(batches)]
    arguments = {"accumulate_grad_batches": accumulate, "log_every_n_steps": 2, "limit_val_batches": 0}
    checkpoint = tmp_path / "last.ckpt"
    whole, resumed = History(), History()
    one, other = (make_module(virtual_adversarial=virtual) for _ in range(2))
    fit(make_trainer(whole, SaveAfter(checkpoint, read), **arguments), one, Loader(batches))
    go_on(make_trainer(resumed, **arguments), other, batches, checkpoint, read)
    later = {step: row for step, row in whole.rows.items() if step * accumulate > read}
    assert later
    assert all(("virtual" in row) == bool(virtual) for row in later.values())
    assert resumed.rows == later


@pytest.mark.parametrize(
    "changes",
    [{}, {"lr": 0.2}, {"weight_decay": 0.5}, {"betas": [0.5, 0.9]}, {"schedule": "cosine"}, {"warmup_steps": 6}],
    ids=str,
)
def test_a_resumed_run_is_optimised_as_its_configuration_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    batches, checkpoint = [make_batch(6, seed=seed) for seed in range(8)], tmp_path / "last.ckpt"
    before = OptimizerConfig(lr=0.05, warmup_steps=2)
    now = replace(before, **changes)
    fit(make_trainer(SaveAfter(checkpoint, 4), limit_val_batches=0), make_module(optimizer=before), Loader(batches))
    history = History()
    trainer = make_trainer(history, limit_val_batches=0)
    go_on(trainer, make_module(optimizer=now), batches, checkpoint, 4)
    schedule: dict[str, Any] = {"warmup_steps": now.warmup_steps, "schedule": now.schedule, "total_steps": 8}
    expected = {step: now.lr * learning_rate_factor(step - 1, **schedule) for step in (5, 6, 7, 8)}
    assert {step: row["lr"] for step, row in history.rows.items()} == pytest.approx(expected)
    decayed, others = trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (now.weight_decay, 0.0)
    assert decayed["betas"] == others["betas"] == tuple(now.betas)


def test_a_resumed_run_keeps_the_lower_parts_slow(tmp_path: Path) -> None:
    batches, checkpoint = [make_batch(6, seed=seed) for seed in range(4)], tmp_path / "last.ckpt"
    slow = OptimizerConfig(lr=0.05, layer_decay=0.5, warmup_steps=0, schedule="constant")
    whole, resumed = make_module(optimizer=slow), make_module(optimizer=slow)
    fit(make_trainer(SaveAfter(checkpoint, 2), limit_val_batches=0), whole, Loader(batches))
    trainer = make_trainer(limit_val_batches=0)
    go_on(trainer, resumed, batches, checkpoint, 2)
    for name, weights in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name
    now = replace(slow, layer_decay=0.25)
    go_on(trainer := make_trainer(limit_val_batches=0), make_module(optimizer=now), batches, checkpoint, 2)
    assert sorted({group["lr"] for group in trainer.optimizers[0].param_groups}) == [0.05 / 16, 0.05 / 4, 0.05]


@pytest.mark.parametrize(
    ("saved_after", "limits", "ends"),
    [
        (8, {"limit_train_batches": 2, "max_epochs": 4}, 8 + 3 * 2),  # an epoch of 8 batches, then three of 2
        (8, {"accumulate_grad_batches": 4, "max_epochs": 3}, 8 + 2 * 2),
        (4, {"limit_train_batches": 6, "max_epochs": 2}, 6 + 6),
        (4, {"limit_train_batches": 2, "max_epochs": 2}, 4 + 2),  # the epoch has had its batches already
        (4, {"accumulate_grad_batches": 4, "max_epochs": 2}, 4 + 1 + 2),
        (4, {"limit_train_batches": 2, "max_epochs": 9, "max_steps": 7}, 7),
    ],
)
def test_the_schedule_of_a_resumed_run_ends_with_its_last_step(
    tmp_path: Path, saved_after: int, limits: dict[str, Any], ends: int
) -> None:
    batches, checkpoint = [make_batch(6, seed=seed) for seed in range(8)], tmp_path / "last.ckpt"
    first = make_trainer(SaveAfter(checkpoint, saved_after), ResumedLoops(), limit_val_batches=0)
    fit(first, make_module(), Loader(batches))
    history, module = History(), make_module()
    trainer = make_trainer(history, ResumedLoops(), limit_val_batches=0, **limits)
    later = EnoughBatches(batches, saved_after)
    trainer.fit(module, later, Loader(batches), ckpt_path=checkpoint, weights_only=True)
    assert trainer.global_step == module.total_steps == ends
    expected = [0.05 * (1 - (step - 2) / (ends - 2)) for step in range(saved_after, ends)]
    assert [row["lr"] for row in history.rows.values()] == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_resumed_run_goes_on_from_the_very_weights(tmp_path: Path, precision: Any) -> None:
    batches, checkpoint = [make_batch(6, seed=seed) for seed in range(4)], tmp_path / "last.ckpt"
    whole, first, rest = (make_module() for _ in range(3))
    fit(make_trainer(limit_val_batches=0, precision=precision), whole, Loader(batches))
    fit(make_trainer(SaveAfter(checkpoint, 2), limit_val_batches=0, precision=precision), first, Loader(batches))
    go_on(make_trainer(limit_val_batches=0, precision=precision), rest, batches, checkpoint, 2)
    assert all(torch.equal(weight, rest.state_dict()[name]) for name, weight in whole.state_dict().items())


def test_the_precision_of_a_resumed_run_rules(tmp_path: Path) -> None:
    batches, checkpoint = [make_batch(6, seed=seed) for seed in range(4)], tmp_path / "last.ckpt"
    for before, now, dtype in (("64-true", "32-true", torch.float32), ("32-true", "64-true", torch.float64)):
        first, rest = make_module(), make_module()
        fit(make_trainer(SaveAfter(checkpoint, 2), limit_val_batches=0, precision=before), first, Loader(batches))
        trainer = make_trainer(limit_val_batches=0, precision=now)
        go_on(trainer, rest, batches, checkpoint, 2)
        assert {weight.dtype for weight in rest.model.parameters()} == {dtype}
        states = trainer.optimizers[0].state.values()
        assert {state["exp_avg"].dtype for state in states} == {dtype}


@pytest.mark.parametrize(
    ("rank", "ranks", "expected"),
    [(0, 2, [1, 2, 3]), (1, 2, [5, 4, 6]), (0, 1, [6, 6, 9]), (0, 3, [6, 6, 9]), (2, 3, [0, 0, 0])],
)
def test_sums_of_a_checkpoint_go_to_their_ranks(
    monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int, expected: list[int]
) -> None:
    as_rank(monkeypatch, rank, world_size=ranks)
    module = make_module()
    sums = torch.tensor([[1.0, 2.0, 3.0], [5.0, 4.0, 6.0]])
    module.on_load_checkpoint({"train_sums": sums, "state_dict": {}})
    assert module._train_sums.tolist() == expected
