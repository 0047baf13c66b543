"""Training of language models: over ranks, resumed, and what it logs."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import VOCAB_SIZE, WITHOUT_DROPOUT, Batch, Loader, fit, make_batch, make_config, make_trainer

from textrnn.config.schema import OptimizerConfig, PretrainingConfig
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.pretraining import LanguageModelTraining

COUNTS = torch.tensor([0, *range(1, VOCAB_SIZE)])


def make_training(seed: int = 0, lr: float = 0.05, candidates: int = 6, **changes: Any) -> LanguageModelTraining:
    return LanguageModelTraining(
        make_config(**changes),
        PretrainingConfig(candidates=candidates),
        OptimizerConfig(lr=lr, warmup_steps=2),
        counts=COUNTS,
        seed=seed,
    )


def patterned(seed: int) -> Batch:
    """Reviews in which each token is its predecessor plus 1, so that both neighbors follow from it."""
    batch = make_batch(16, seed)
    times = torch.arange(batch["token_ids"].shape[1])
    counted = (batch["token_ids"][:, :1] + times) % (VOCAB_SIZE - 2) + 2
    return {**batch, "token_ids": counted.masked_fill(batch["token_ids"] == 0, 0)}


def test_starts_from_the_embedding_and_layers_of_a_classifier() -> None:
    classifier = ReviewClassifier(make_config(), OptimizerConfig(), vocab_size=VOCAB_SIZE, seed=3).state_dict()
    own = make_training(seed=3).state_dict()
    shared = [name for name in classifier if name.startswith(("model.embedding.", "model.encoder."))]
    assert shared
    assert all(torch.equal(classifier[name], own[name]) for name in shared)


def test_training_learns_both_directions_and_logs_perplexities() -> None:
    batches = [patterned(seed) for seed in range(60)]
    module = make_training(hidden_size=16, **WITHOUT_DROPOUT)
    trainer = make_trainer(log_every_n_steps=20)
    fit(trainer, module, Loader(batches), Loader([patterned(seed) for seed in range(60, 62)]))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {name for name in logged if name.startswith("train/")} == {"train/loss"}
    assert logged["val/perplexity"] == pytest.approx(math.exp(logged["val/loss"]))
    assert logged["val/perplexity"] ** 2 == pytest.approx(
        logged["val/perplexity_forward"] * logged["val/perplexity_backward"], rel=1e-5
    )
    assert logged["val/perplexity_forward"] < 6  # of 18 tokens
    assert logged["val/perplexity_backward"] < 6


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    batches, path = [make_batch(6, seed=seed) for seed in range(8)], tmp_path / "last.ckpt"

    class SaveAfter(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(path)

    whole, resumed = make_training(), make_training()
    fit(make_trainer(SaveAfter(), limit_val_batches=0, log_every_n_steps=3), whole, Loader(batches))

    class Later(Loader):
        def __iter__(self) -> Any:
            return iter(self.batches[4:])

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

    trainer = make_trainer(limit_val_batches=0, log_every_n_steps=3)
    trainer.fit(resumed, Later(batches), Loader(batches), ckpt_path=path, weights_only=True)
    assert resumed.train_metrics == whole.train_metrics
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


@pytest.mark.parametrize("world_size", [2, 3])
def test_step_has_the_same_gradient_at_every_world_size(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_batch(7, seed=5)  # no world size divides it: ranks get fillers
    module = make_training(**WITHOUT_DROPOUT).double()
    monkeypatch.setattr(LanguageModelTraining, "_log_training", lambda *_: None)
    count = (whole["lengths"] - 1).sum() * 2.0

    def gradients(batch: Batch, ranks: int) -> list[torch.Tensor]:
        strategy = SimpleNamespace(reduce=lambda own, reduce_op: count.to(own.dtype))
        trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=4, world_size=ranks, strategy=strategy)
        monkeypatch.setattr(LanguageModelTraining, "trainer", trainer)
        return list(torch.autograd.grad(module.training_step(batch, 0), list(module.parameters()), allow_unused=False))

    expected = gradients(whole, 1)
    share = math.ceil(7 / world_size)
    per_rank = []
    for rank in range(world_size):
        rows = torch.arange(rank * share, (rank + 1) * share)
        part = {name: value[rows.clamp(max=6)] for name, value in whole.items() if isinstance(value, torch.Tensor)}
        per_rank.append(gradients({**part, "weights": (rows <= 6).float()}, world_size))
    for exact, *parts in zip(expected, *per_rank, strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), exact, atol=1e-12, rtol=1e-10)
