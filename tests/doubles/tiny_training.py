"""The smallest training with everything that tracking sees: batches as in `data`, and a model with our metrics."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity, new_identity

TIME = 10
LENGTHS = (3, 10, 7, 5)
WEIGHTS = (1.0, 1.0, 1.0, 0.0)
TOKENS = 20
"""Tokens in a batch: those of the three reviews, not of the filler."""


class Batches(IterableDataset[dict[str, Any]]):
    """`count` equal batches, each after `wait` seconds."""

    def __init__(self, count: int, wait: float = 0.0) -> None:
        self.count, self.wait = count, wait

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.count):
            time.sleep(self.wait)
            yield {
                "token_ids": torch.ones(len(LENGTHS), TIME, dtype=torch.int64),
                "lengths": torch.tensor(LENGTHS),
                "labels": torch.tensor([0, 1, 0, 0]),
                "weights": torch.tensor(WEIGHTS),
                "global_batch_size": 3,
            }


class TinyModel(pl.LightningModule):
    """A line through the lengths."""

    def __init__(self, validation_seconds: float = 0.0) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        self.validation_seconds = validation_seconds

    def loss(self, batch: dict[str, Any]) -> Tensor:
        logits = self.line(batch["lengths"].float()[:, None] / TIME).squeeze(1)
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, batch["labels"].float(), weight=batch["weights"]
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/accuracy", 0.5)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        time.sleep(self.validation_seconds)
        self.log("val/loss", self.loss(batch), batch_size=3)
        self.log("val/accuracy", 0.75, batch_size=3)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch), batch_size=3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(batches: int, wait: float = 0.0) -> DataLoader[dict[str, Any]]:
    return DataLoader(Batches(batches, wait), batch_size=None)


def identity() -> RunIdentity:
    return new_identity(Config(), ["train.py"])


def trainer(run_dir: Path, *, callbacks: list[pl.Callback] | None = None, **arguments: Any) -> pl.Trainer:
    """A trainer on one CPU with nothing of Lightning's own that prints or writes."""
    plain: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "log_every_n_steps": 2,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks or []),
        "default_root_dir": run_dir,
    }
    return pl.Trainer(callbacks=callbacks, **{**plain, **arguments})
