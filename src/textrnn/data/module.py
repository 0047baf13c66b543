"""The data module: a token store's splits as batches for Lightning, each process with its share."""

from typing import TypedDict

import pytorch_lightning as pl
import torch

from textrnn.base.console import LOGGER
from textrnn.base.lightning_internals import processed_tracker
from textrnn.config.schema import UNLABELLED, DataConfig
from textrnn.data.batches import Batch, BatchLoader, device_share, straggler_fraction
from textrnn.data.review_file import Split
from textrnn.data.segments import Segments, new_directory
from textrnn.data.store import Store

BATCHES_AHEAD = 2
"""Batches that are made in advance while a GPU computes."""


class ReviewsDataModule(pl.LightningDataModule):
    """Batches of a store's reviews.

    With `data.segment_size` an epoch is one segment; the trainer then needs `reload_dataloaders_every_n_epochs=1`,
    which is this module's `reload_dataloaders_every_n_epochs`.

    Args:
        data: The data configuration.
        store: The store that was prepared with it.
        seed: The run's seed; it decides the order of training reviews.
        training: The training reviews, without segments; None: the store's.
    """

    def __init__(self, data: DataConfig, store: Store, seed: int, *, training: Split | None = None) -> None:
        super().__init__()
        self.data = data
        self.store = store
        self.seed = seed
        self._training = training
        self._segments: Segments | None = None
        self._waited_seconds = 0.0
        self.straggler_fraction: float | None = None
        """`batches.straggler_fraction` of the first epoch's plan, in a resumed run too; None before training."""

    @property
    def reload_dataloaders_every_n_epochs(self) -> int:
        """Value for the trainer's argument of this name: 1 with segments, else 0."""
        return 0 if self.data.segment_size is None else 1

    @property
    def waited_seconds(self) -> float:
        """Time that training has waited for segments to be encoded."""
        return self._waited_seconds if self._segments is None else self._segments.waited_seconds

    def train_dataloader(self) -> BatchLoader:
        """Training batches, shuffled and bucketed by length, a new plan each epoch."""
        trainer = self._attached_trainer()
        split = self._training or self.store.split("train")
        if self.data.segment_size is not None:
            split = self._open_segments().segment(self._epoch())
        loader = BatchLoader(
            split,
            batch_size=self.data.batch_size,
            max_length=self.data.max_length,
            truncate=self.data.truncate,
            seed=self.seed,
            shuffle=True,
            epoch=self._epoch,
            same_every_epoch=bool(trainer.overfit_batches),  # type: ignore[attr-defined]  # set from outside the class
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            unlabelled=self.store.split(UNLABELLED) if self.data.unlabelled_batch_size > 0 else None,
            unlabelled_batch_size=self.data.unlabelled_batch_size,
            **_feeding(trainer),
        )
        if self.straggler_fraction is None:
            self._measure_plan(loader, trainer)
        return loader

    def val_dataloader(self) -> BatchLoader:
        """Validation batches, sorted by length."""
        return self.loader_for("validation")

    def test_dataloader(self) -> BatchLoader:
        """Test batches, sorted by length."""
        return self.loader_for("test")

    def loader_for(self, split: str) -> BatchLoader:
        """Batches of a whole split sorted by length, for this process of the trainer, or without one for all ranks."""
        rank, world_size, feeding = 0, 1, _Feeding()
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            feeding = _feeding(self.trainer)
        return BatchLoader(
            self.store.split(split),
            batch_size=self.data.effective_eval_batch_size(),
            max_length=self.data.max_length,
            truncate=self.data.truncate,
            rank=rank,
            world_size=world_size,
            **feeding,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch itself when training is on the CPU, else copy it to the device as Lightning does.

        Lightning takes a tenth of a millisecond per batch to find that there is nothing to copy.
        """
        if device.type == "cpu":
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def teardown(self, stage: str) -> None:
        """Stop encoding segments when training ends."""
        if self._segments is not None and stage == "fit":
            self._waited_seconds = self._segments.waited_seconds
            self._segments.close()
            self._segments = None

    def _measure_plan(self, loader: BatchLoader, trainer: pl.Trainer) -> None:
        devices = trainer.world_size
        self.straggler_fraction = straggler_fraction(loader.plan(0), loader.lengths, devices)
        if devices > 1 and trainer.is_global_zero:
            LOGGER.info(
                f"{devices} processes, each with at most {device_share(self.data.batch_size, devices)} of the "
                f"{self.data.batch_size} reviews of a step; straggler fraction by the lengths: "
                f"{100 * self.straggler_fraction:.1f} % of their time"
            )

    def _epoch(self) -> int:
        """Return the trainer's epoch; `current_epoch` is one behind right after a resume at an epoch's end."""
        return processed_tracker(self._attached_trainer().fit_loop.epoch_progress.current).processed

    def _open_segments(self) -> Segments:
        """Open the run's segments, which the first process encodes into a directory that the others read."""
        if self._segments is None:
            trainer = self._attached_trainer()
            directory = new_directory(self.data)
            if trainer.is_global_zero:
                self._segments = Segments(self.data, self.store, directory=directory)
            directory = trainer.strategy.broadcast(directory)
            if self._segments is None:
                self._segments = Segments(self.data, self.store, directory=directory, encodes=False)
        return self._segments

    def _attached_trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "Lightning attaches the trainer before it requests batches"
        return self.trainer


class _Feeding(TypedDict, total=False):
    ahead: int
    pin_memory: bool


def _feeding(trainer: pl.Trainer) -> _Feeding:
    """Return how batches are made for the device.

    A GPU's steps take milliseconds: a thread makes their batches in advance, in pinned memory, so that Lightning's
    copies overlap with the computation. A step on the CPU takes hundreds of times as long as making its batch (0.2 ms),
    and a thread would compete with the step for the cores.
    """
    if trainer.strategy.root_device.type != "cuda":
        return {}
    return {"ahead": BATCHES_AHEAD, "pin_memory": True}
