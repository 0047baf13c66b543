"""Training runs of a fraction of a second: random reviews, a small model, a real Trainer."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from textrnn.config.schema import LABELS, EmbeddingConfig, ModelConfig, OptimizerConfig
from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import SplitPredictions
from textrnn.evaluation.predictions import Predictions
from textrnn.model.classifier import ReviewClassifier

VOCAB_SIZE = 20
WITHOUT_DROPOUT: dict[str, Any] = {"word_dropout": 0.0, "embedding_dropout": 0.0, "output_dropout": 0.0}
Batch = dict[str, Any]


def make_config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"embedding": EmbeddingConfig(size=6), "hidden_size": 5, **changes})


def make_batch(reviews: int, seed: int, fillers: int = 0, classes: int = 2) -> Batch:
    """Random reviews of 1 to 9 tokens; the more are even, the higher the class, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (reviews,), generator=generator)
    token_ids = torch.randint(2, VOCAB_SIZE, (reviews, int(lengths.max())), generator=generator)
    inside = torch.arange(token_ids.shape[1]) < lengths.unsqueeze(1)
    token_ids = token_ids.masked_fill(~inside, 0)
    even = ((token_ids % 2 == 0) & inside).sum(dim=1)
    labels = even * 2 > lengths if classes == 2 else even * classes // (lengths + 1)
    weights = torch.ones(reviews)
    weights[reviews - fillers :] = 0
    return {
        "token_ids": token_ids,
        "lengths": lengths,
        "labels": labels.long(),
        "weights": weights,
        "indices": torch.arange(reviews),
        "global_batch_size": reviews - fillers,
    }


class Loader:
    """Batches in order; no DataLoader, so that Lightning doesn't ask for workers."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class LoadedSplit:
    """Labels and lengths of the reviews in `batches`, by their indices: as much of a split as predictions need."""

    def __init__(self, batches: list[Batch]) -> None:
        real = [batch["weights"] > 0 for batch in batches]
        indices, self.labels, self.lengths = (
            torch.cat([batch[name][rows] for batch, rows in zip(batches, real, strict=True)]).numpy()
            for name in ("indices", "labels", "lengths")
        )
        assert sorted(indices) == list(range(len(indices)))
        order = np.argsort(indices)
        self.labels, self.lengths = self.labels[order], self.lengths[order]

    def __len__(self) -> int:
        return len(self.labels)


def names_of(classes: int) -> tuple[str, ...]:
    """Names of so many classes."""
    return LABELS if classes == 2 else tuple(f"class {number}" for number in range(classes))


def make_predictions(
    batches: list[Batch], *, monitor: str = "val/loss", mode: str = "min", classes: int = 2
) -> Predictions:
    """The callback that measures validation and test, both of these batches."""
    split = cast(Split, LoadedSplit(batches))
    return Predictions({"validation": split, "test": split}, monitor=monitor, mode=mode, classes=names_of(classes))


def validate_on_ranks(
    batches: list[Batch], shares: list[list[tuple[Tensor, Batch]]]
) -> tuple[SplitPredictions, dict[str, float]]:
    """A validation on ranks with these logits and batches: the predictions and what is logged.

    The ranks come one after another, and each gets the sum of those so far, so the last one has that of all.
    """
    sent: list[Tensor] = []
    logged: dict[str, float] = {}

    def reduce(tensor: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        sent.append(tensor.clone())
        return torch.stack(sent).sum(dim=0)

    trainer: Any = SimpleNamespace(
        world_size=len(shares), sanity_checking=False, global_step=1, strategy=SimpleNamespace(reduce=reduce)
    )
    module: Any = SimpleNamespace(device="cpu", log=lambda name, value, **_: logged.update({name: float(value)}))
    (shape,) = {logits.shape[1:] for share in shares for logits, _ in share}
    for share in shares:
        callback = make_predictions(batches, classes=2 if not shape else shape[0])
        callback.on_validation_start(trainer, module)
        for number, (logits, batch) in enumerate(share):
            callback.on_validation_batch_end(trainer, module, logits, batch, number)
        logged.clear()
        callback.on_validation_epoch_end(trainer, module)
    assert callback.validation is not None
    return callback.validation, logged


class History(pl.Callback):
    """What is logged in training, by optimiser step (from 1)."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        if "train/loss" in trainer.callback_metrics and trainer.global_step % every == 0:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            self.rows[trainer.global_step] = {
                "loss": metrics["train/loss"],
                "accuracy": metrics["train/accuracy"],
                "lr": metrics["lr"],
            }
            if "train/virtual_adversarial" in metrics:
                self.rows[trainer.global_step]["virtual"] = metrics["train/virtual_adversarial"]


def make_module(
    seed: int = 0,
    optimizer: OptimizerConfig | None = None,
    classes: int = 2,
    *,
    many_labels: bool = False,
    **changes: Any,
) -> ReviewClassifier:
    optimizer = optimizer or OptimizerConfig(lr=0.05, warmup_steps=2)
    named: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "seed": seed, "classes": classes, "many_labels": many_labels}
    return ReviewClassifier(make_config(**changes), optimizer, **named)


def make_trainer(*callbacks: pl.Callback, **arguments: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **arguments})


def fit(trainer: pl.Trainer, module: ReviewClassifier, train: Loader, validation: Loader | None = None) -> None:
    # Lightning warns where a validation step has no batches, even if none are asked for.
    trainer.fit(module, train, validation or train)


def train(batches: list[Batch], module: ReviewClassifier, **arguments: Any) -> dict[int, dict[str, float]]:
    history = History()
    fit(make_trainer(history, limit_val_batches=0, **arguments), module, Loader(batches))
    return history.rows


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, **trainer: int) -> None:
    """Classifiers are told that theirs is this rank, of a trainer with these attributes."""
    monkeypatch.setattr(ReviewClassifier, "global_rank", rank)
    monkeypatch.setattr(ReviewClassifier, "trainer", SimpleNamespace(**{"precision_plugin": None, **trainer}))
