"""The batch plan's promises."""

from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.small_stores import write_split
from hypothesis import given
from hypothesis import strategies as st

from textrnn.data.batches import (
    BatchLoader,
    Indices,
    Lengths,
    cells_per_rank,
    collate,
    device_share,
    plan_epoch,
    plan_unlabelled,
    shard_step,
    straggler_fraction,
)
from textrnn.data.review_file import Split

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=400).map(lambda n: np.array(n, dtype=np.int32))


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """A split of 60 reviews."""
    return write_split(tmp_path_factory.mktemp("sixty") / "reviews.arrow", 60)


@given(LENGTHS, st.integers(1, 70), st.integers(0, 5), st.booleans())
def test_each_review_is_in_exactly_one_step(lengths: Any, batch_size: int, epoch: int, shuffle: bool) -> None:
    plan = plan_epoch(lengths, batch_size=batch_size, seed=3, epoch=epoch, shuffle=shuffle)
    assert len(plan) == -(-len(lengths) // batch_size)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, plan))[1:] == [batch_size] * (len(plan) - 1)


WORLD_SIZES = st.sampled_from([1, 2, 3, 4, 7, 8, 64])


@given(LENGTHS, st.integers(1, 70), WORLD_SIZES)
def test_the_processes_share_each_step(lengths: Any, batch_size: int, world_size: int) -> None:
    for step in plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=1):
        shares = [shard_step(step, lengths, rank, world_size) for rank in range(world_size)]
        dealt = [index for rows, weights in shares for index, weight in zip(rows, weights, strict=True) if weight == 1]
        assert sorted(dealt) == sorted(step)
        assert all(len(rows) == len(weights) >= 1 for rows, weights in shares)
        assert all(weights.tolist() == [0] for rows, weights in shares if not weights.all()), "a filler is alone"
        real = [int(weights.sum()) for _, weights in shares]
        assert max(real) - min(real) <= 1
        assert max(real) == min(len(step), -(-len(step) // world_size))
        assert max(real) <= device_share(batch_size, world_size)
        # Dealt like cards: the n-th reviews of all shares lie between the n-th and the next of the first share.
        first = lengths[shares[0][0]]
        for rows, weights in shares:
            if weights.all():
                assert (first[: len(rows)] <= lengths[rows]).all()
                assert (lengths[rows][: len(first) - 1] <= first[1 : len(rows) + 1]).all()


@given(LENGTHS, st.integers(1, 70), WORLD_SIZES)
def test_the_slowest_process_of_a_step_has_little_more_than_the_others(
    lengths: Any, batch_size: int, world_size: int
) -> None:
    plan = plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=0)
    slowest, mean = 0.0, 0.0
    for step in plan:
        shares = [shard_step(step, lengths, rank, world_size)[0] for rank in range(world_size)]
        cells = [len(rows) * int(lengths[rows].max()) for rows in shares]
        assert cells_per_rank(step, lengths, world_size).tolist() == cells
        slowest, mean = slowest + max(cells), mean + float(np.mean(cells))
        # The last card of every process is among the step's longest, one a process; the least of them bounds the rest.
        ordered = np.sort(lengths[step]).tolist()
        reviews = len(ordered)
        last_cards = ordered[-world_size] if reviews >= world_size else ordered[0]
        most, least = -(-reviews // world_size), max(1, reviews // world_size)
        assert max(cells) <= most * ordered[-1]
        assert max(cells) / np.mean(cells) <= most * ordered[-1] / (least * last_cards)
        assert sum(cells[:reviews]) <= reviews * ordered[-1], "no more padding than in one process, fillers aside"
    assert straggler_fraction(plan, lengths, world_size) == pytest.approx(1 - mean / slowest)
    assert straggler_fraction(plan, lengths, 1) == 0


def test_a_plan_follows_from_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=5000)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [step.tolist() for step in plan_epoch(lengths, batch_size=32, seed=seed, epoch=epoch)]

    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1)
    assert plan(0, 0) != plan(1, 0)
    assert plan(0, 1) != plan(1, 0)


def padding_share(plan: list[Indices], lengths: Lengths) -> float:
    """Share of a plan's (batch, time) cells that are padding, on one process; more processes pad no more."""
    cells = sum(len(step) * int(lengths[step].max()) for step in plan)
    return 1.0 - int(lengths.sum()) / cells


def test_buckets_leave_little_padding_and_mix_the_lengths() -> None:
    lengths = np.minimum(np.random.default_rng(0).lognormal(5.3, 0.7, size=20_000).astype(np.int64) + 1, 400)
    plan = plan_epoch(lengths, batch_size=64, seed=0, epoch=0)
    shuffled = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(plan))
    assert padding_share(plan, lengths) < 0.05
    assert padding_share(shuffled, lengths) > 0.3
    means = [lengths[step].mean() for step in plan]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_collate_pads_to_the_longest_and_keeps_the_asked_end(tmp_path: Path, truncate: str) -> None:
    split = write_split(tmp_path / "reviews.arrow", 40)
    indices = np.array([5, 0, 39])
    weights = np.array([1, 1, 0], dtype=np.float32)
    batch = collate(split, indices, weights, max_length=20, truncate=truncate, global_batch_size=7)
    whole = [split.token_ids(index).tolist() for index in indices]
    kept = [ids[:20] if truncate == "head" else ids[-20:] for ids in whole]
    assert batch["lengths"].tolist() == [len(ids) for ids in kept]
    assert batch["token_ids"].shape == (3, max(map(len, kept)))
    for row, ids in zip(batch["token_ids"].tolist(), kept, strict=True):
        assert row == ids + [0] * (len(row) - len(ids))
    assert batch["labels"].tolist() == split.labels[indices].tolist()
    assert batch["indices"].tolist() == [5, 0, 39]
    assert batch["weights"].tolist() == [1, 1, 0]
    assert batch["global_batch_size"] == 7
    assert {name: value.dtype for name, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "token_ids": torch.int64,
        "lengths": torch.int64,
        "labels": torch.int64,
        "weights": torch.float32,
        "indices": torch.int64,
    }


@given(st.integers(1, 60), st.integers(1, 70), WORLD_SIZES, st.integers(0, 3), st.booleans())
def test_world_sizes_see_the_same_reviews_in_the_same_steps(
    sixty: Split, reviews: int, batch_size: int, world_size: int, epoch: int, shuffle: bool
) -> None:
    part = copy(sixty)
    part.lengths, part.labels = sixty.lengths[:reviews], sixty.labels[:reviews]
    settings: dict[str, Any] = {"batch_size": batch_size, "max_length": 50, "truncate": "tail", "shuffle": shuffle}
    alone = BatchLoader(part, epoch=lambda: epoch, **settings)
    loaders = [
        BatchLoader(part, epoch=lambda: epoch, rank=rank, world_size=world_size, **settings)
        for rank in range(world_size)
    ]
    assert {len(loader) for loader in loaders} == {len(alone)}
    seen: list[int] = []
    for whole, *parts in zip(alone, *loaders, strict=True):
        real = torch.cat([batch["indices"][batch["weights"] == 1] for batch in parts])
        assert sorted(real.tolist()) == sorted(whole["indices"].tolist())
        assert {batch["global_batch_size"] for batch in parts} == {len(real)}
        seen += real.tolist()
    assert sorted(seen) == list(range(reviews))


# --- unlabelled reviews -------------------------------------------------------------------------------------------


@given(LENGTHS, st.integers(1, 70), st.integers(0, 9), st.integers(0, 9))
def test_unlabelled_reviews_come_in_epochs_of_their_own(lengths: Any, batch_size: int, first: int, count: int) -> None:
    settings: dict[str, Any] = {"batch_size": batch_size, "seed": 3}
    steps = plan_unlabelled(lengths, first=first, count=count, **settings)
    assert len(steps) == count
    whole = [step for epoch in range(first + count) for step in plan_epoch(lengths, epoch=epoch, **settings)]
    for one, other in zip(steps, whole[first : first + count], strict=True):
        assert one.tolist() == other.tolist()


def test_both_streams_are_the_same_for_any_number_of_processes_and_from_any_place(sixty: Split, tmp_path: Path) -> None:
    more = write_split(tmp_path / "unlabelled.arrow", 37, seed=1)
    place = {"epoch": 0}

    def loader(rank: int = 0, world_size: int = 1) -> BatchLoader:
        return BatchLoader(
            sixty,
            batch_size=8,
            max_length=50,
            truncate="tail",
            seed=1,
            shuffle=True,
            epoch=lambda: place["epoch"],
            rank=rank,
            world_size=world_size,
            unlabelled=more,
            unlabelled_batch_size=5,
        )

    def rows(batch: Any) -> tuple[list[int], list[int]]:
        real = [of["indices"][of["weights"] > 0].tolist() for of in (batch, batch["unlabelled"])]
        return sorted(real[0]), sorted(real[1])

    seen: list[int] = []
    for place["epoch"] in range(3):
        alone = list(loader())
        assert all(batch["unlabelled"]["token_ids"].shape[1] <= 50 for batch in alone)
        seen += [row for batch in alone for row in rows(batch)[1]]
        for world_size in (2, 7):
            shards = zip(*(loader(rank, world_size) for rank in range(world_size)), strict=True)
            for whole, shares in zip(alone, shards, strict=True):
                assert {share["unlabelled"]["global_batch_size"] for share in shares} == {
                    whole["unlabelled"]["global_batch_size"]
                }
                dealt = [rows(share) for share in shares]
                assert rows(whole) == tuple(sorted(chain(*(part[k] for part in dealt))) for k in (0, 1))
        resumed = loader()
        resumed.load_state_dict({"epoch": place["epoch"], "batch": 3})
        assert [rows(batch) for batch in resumed] == [rows(batch) for batch in alone[3:]]
    for start in range(0, len(seen) - 36, 37):
        assert sorted(seen[start : start + 37]) == list(range(37)), "each once before any comes again"
