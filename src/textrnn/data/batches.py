"""The batch plan: which reviews make which step, as a pure function of lengths, seed and epoch.

A step's reviews don't depend on the number of ranks; `shard_step` gives each rank its shard of a step.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from textrnn.base.process import in_advance
from textrnn.config.schema import PAD_ID
from textrnn.data.review_file import Split

if TYPE_CHECKING:
    import torch

POOL_BATCHES = 100
"""Maximum number of batches sorted by length together: more means less padding, fewer means more mixing."""

POOLS = 4
"""Minimum number of pools of an epoch: with one, each epoch would have the same batches in another order."""

Indices = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.integer]


class Batch(TypedDict):
    """The reviews of one rank in one step."""

    token_ids: "torch.Tensor"
    """(batch, time) int64, padded with 0 up to the longest review."""
    lengths: "torch.Tensor"
    """(batch,) int64, tokens of each review, at least 1."""
    labels: "torch.Tensor"
    """(batch,) int64, class ids; with several labels a review (batch, classes) float32, 0 or 1."""
    weights: "torch.Tensor"
    """(batch,) float32, 1 for a review, 0 for the filler of a rank that has none in this step."""
    indices: "torch.Tensor"
    """(batch,) int64, the review's row in its split."""
    global_batch_size: int
    """Reviews in the step over all ranks."""
    unlabelled: "NotRequired[Batch]"
    """The step's unlabelled reviews, whose labels are -1; missing without `data.unlabelled_batch_size`."""


def plan_epoch(lengths: Lengths, *, batch_size: int, seed: int, epoch: int, shuffle: bool = True) -> list[Indices]:
    """Return the steps of an epoch, each review in exactly one.

    With `shuffle` the reviews are shuffled, cut into pools of up to `POOL_BATCHES` batches, sorted by length within
    their pool and cut into batches, whose order is shuffled. Without, all reviews are sorted by length and the batches
    have a fixed mixed order, so that `limit_val_batches` takes a sample of all lengths.

    Args:
        lengths: (reviews,) tokens of each review as the model reads it.
        batch_size: Reviews in a step over all ranks; one step may have fewer.
        seed: Not negative; with `epoch` it decides the order.
        epoch: Not negative.
        shuffle: Whether `seed` and `epoch` decide the order.

    Returns:
        ceil(reviews / batch_size) arrays of rows.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch] if shuffle else [0, 0])))
    order = generator.permutation(len(lengths))
    steps_of_all = max(1, -(-len(lengths) // batch_size))
    pool_batches = max(1, min(POOL_BATCHES, len(lengths) // batch_size // POOLS)) if shuffle else steps_of_all
    steps: list[Indices] = []
    for pool in _cut(order, pool_batches * batch_size):
        steps += _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    return [steps[number] for number in generator.permutation(len(steps))]


def plan_unlabelled(lengths: Lengths, *, batch_size: int, seed: int, first: int, count: int) -> list[Indices]:
    """Return the unlabelled reviews of `count` steps of training, from step `first` of the run on.

    They are read in epochs of their own, each with its plan by `plan_epoch`, one after another.

    Args:
        lengths: (reviews,) tokens of each unlabelled review as the model reads it.
        batch_size: Unlabelled reviews in a step over all ranks; the last step of each of their epochs may have fewer.
        seed: The run's seed.
        first: Steps before, in all epochs of training, each counted as long as it is without a limit.
        count: Number of steps.

    Returns:
        `count` arrays of rows.
    """
    an_epoch = -(-len(lengths) // batch_size)
    epochs = range(first // an_epoch, -(-(first + count) // an_epoch))
    steps = [step for epoch in epochs for step in plan_epoch(lengths, batch_size=batch_size, seed=seed, epoch=epoch)]
    return steps[first % an_epoch :][:count]


def _cut(rows: Indices, size: int) -> list[Indices]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def shard_step(step: Indices, lengths: Lengths, rank: int, world_size: int) -> tuple[Indices, npt.NDArray[np.float32]]:
    """Return a rank's shard of a step: its rows and their weights.

    The step is sorted by length and its reviews are dealt to the ranks in turn, so all ranks have about the same work.
    A rank without a review gets the step's shortest one with weight 0: every rank takes part in every step.
    """
    ordered = step[np.argsort(lengths[step], kind="stable")]
    mine = ordered[rank::world_size]
    if len(mine) == 0:
        return ordered[:1], np.zeros(1, dtype=np.float32)
    return mine, np.ones(len(mine), dtype=np.float32)


def device_share(batch_size: int, world_size: int) -> int:
    """Return the number of reviews in the largest shard of a step."""
    return -(-batch_size // world_size)


def cells_per_rank(step: Indices, lengths: Lengths, world_size: int) -> npt.NDArray[np.int64]:
    """Return (world_size,) the cells of each rank's shard of a step: reviews times the tokens of the longest."""
    ordered = np.sort(lengths[step])
    ranks = np.arange(world_size)
    counts = (len(ordered) - ranks + world_size - 1) // world_size
    longest = ordered[np.where(counts > 0, ranks + (counts - 1) * world_size, 0)]
    return np.maximum(counts, 1) * longest.astype(np.int64)


def straggler_fraction(plan: list[Indices], lengths: Lengths, world_size: int) -> float:
    """Return the fraction of the ranks' time spent waiting for a step's straggler, if time is proportional to cells.

    Ranks wait for each other at the end of each step, to average gradients. The result is 0 with one rank; other causes
    of unequal speed are ignored.
    """
    cells = np.array([cells_per_rank(step, lengths, world_size) for step in plan])
    return 1.0 - float(cells.mean(axis=1).sum() / cells.max(axis=1).sum())


def collate(
    split: Split,
    indices: Indices,
    weights: npt.NDArray[np.float32],
    *,
    max_length: int,
    truncate: str,
    global_batch_size: int,
    pin_memory: bool = False,
) -> Batch:
    """Return reviews as tensors, padded to the longest of them; token ids are copied from the memory-mapped file.

    Args:
        split: The split.
        indices: (batch,) rows of the split.
        weights: (batch,) 1, or 0 for a filler.
        max_length: Maximum number of tokens of a review.
        truncate: Which end of a longer review is kept: "head" or "tail".
        global_batch_size: Reviews in the step over all ranks.
        pin_memory: Whether the tensors are in pinned memory, from which a GPU copies asynchronously.
    """
    import torch

    def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
        made = torch.from_numpy(values)
        return made.pin_memory() if pin_memory else made

    lengths = np.minimum(split.lengths[indices], max_length).astype(np.int64)
    shape = (len(indices), int(lengths.max()))
    token_ids = torch.full(shape, PAD_ID, dtype=torch.int64, pin_memory=pin_memory)
    for row, index, length in zip(token_ids.numpy(), indices.tolist(), lengths.tolist(), strict=True):
        review = split.token_ids(index)
        row[:length] = review[:length] if truncate == "head" else review[-length:]
    return Batch(
        token_ids=token_ids,
        lengths=tensor(lengths),
        labels=tensor(split.labels[indices].astype(np.int64 if split.labels.ndim == 1 else np.float32)),
        weights=tensor(weights),
        indices=tensor(indices.astype(np.int64)),
        global_batch_size=global_batch_size,
    )


class BatchLoader:
    """A split's batches for one rank, epoch after epoch, with a length and an exact position.

    Lightning saves the position (`state_dict`) in a checkpoint and restores it on resume. As the loader has a length
    too, Lightning fetches no batch ahead, so the position is the first untrained batch.

    Args:
        split: The split.
        batch_size: Reviews in a step over all ranks.
        max_length: Maximum number of tokens of a review.
        truncate: "head" or "tail".
        seed: Decides the order, with the epoch.
        shuffle: Whether `seed` and `epoch` decide the order.
        epoch: Returns the epoch; called at the first batch of an iteration.
        same_every_epoch: Whether each epoch repeats the first one's plan (Lightning's `overfit_batches`).
        rank: This rank's number.
        world_size: Number of ranks.
        ahead: Batches that a thread makes in advance; 0: none, and no thread.
        pin_memory: See `collate`.
        unlabelled: Reviews of which each step has some more, by `plan_unlabelled`; None: none.
        unlabelled_batch_size: Unlabelled reviews in a step over all ranks.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        max_length: int,
        truncate: str,
        seed: int = 0,
        shuffle: bool = False,
        epoch: Callable[[], int] = lambda: 0,
        same_every_epoch: bool = False,
        rank: int = 0,
        world_size: int = 1,
        ahead: int = 0,
        pin_memory: bool = False,
        unlabelled: Split | None = None,
        unlabelled_batch_size: int = 0,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.lengths = np.minimum(split.lengths, max_length)
        self._max_length = max_length
        self._truncate = truncate
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = epoch
        self._same_every_epoch = same_every_epoch
        self._rank = rank
        self._world_size = world_size
        self._ahead = ahead
        self._pin_memory = pin_memory
        self._unlabelled = unlabelled
        self._unlabelled_batch_size = unlabelled_batch_size
        self._unlabelled_lengths = self.lengths if unlabelled is None else np.minimum(unlabelled.lengths, max_length)
        self._place = (0, 0)
        self._restored: tuple[int, int] | None = None

    def plan(self, epoch: int) -> list[Indices]:
        """Return the epoch's steps over all ranks."""
        return plan_epoch(
            self.lengths,
            batch_size=self.batch_size,
            seed=self._seed,
            epoch=0 if self._same_every_epoch else epoch,
            shuffle=self._shuffle,
        )

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # A generator, so that the epoch is read at the first batch: Lightning makes iterators that it drops.
        epoch = self._epoch()
        restored, self._restored = self._restored, None
        # A position in another epoch is that epoch's end: this one starts at its beginning.
        start = restored[1] if restored is not None and restored[0] == epoch else 0
        steps = self._steps(epoch, start)
        batches = in_advance(self._batch, steps, ahead=self._ahead) if self._ahead else map(self._batch, steps)
        for number, batch in enumerate(batches, start):
            # Counts the batch that is yielded, not those made in advance, which are untrained.
            self._place = (epoch, number + 1)
            yield batch

    def _steps(self, epoch: int, start: int) -> list[tuple[Indices, Indices | None]]:
        """Return the epoch's steps from `start` on, each with its unlabelled reviews."""
        steps = self.plan(epoch)[start:]
        if self._unlabelled is None:
            return [(step, None) for step in steps]
        others = plan_unlabelled(
            self._unlabelled_lengths,
            batch_size=self._unlabelled_batch_size,
            seed=self._seed,
            first=(0 if self._same_every_epoch else epoch * len(self)) + start,
            count=len(steps),
        )
        return list(zip(steps, others, strict=True))

    def _batch(self, step: tuple[Indices, Indices | None]) -> Batch:
        """Return the batch of this rank's shard of a step."""
        labelled, others = step
        batch = self._shard(self.split, self.lengths, labelled)
        if self._unlabelled is not None and others is not None:
            batch["unlabelled"] = self._shard(self._unlabelled, self._unlabelled_lengths, others)
        return batch

    def _shard(self, split: Split, lengths: Lengths, step: Indices) -> Batch:
        indices, weights = shard_step(step, lengths, self._rank, self._world_size)
        return collate(
            split,
            indices,
            weights,
            max_length=self._max_length,
            truncate=self._truncate,
            global_batch_size=len(step),
            pin_memory=self._pin_memory,
        )

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next batch: `epoch` and `batch`, its number in the epoch."""
        epoch, batch = self._restored or self._place
        return {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration at a position from `state_dict`, if it is of the same epoch."""
        self._restored = (state["epoch"], state["batch"])
