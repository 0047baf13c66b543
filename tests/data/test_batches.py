"""The batch plan's promises, and the exact place of a loader in a real trainer."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.progress import _ProcessedTracker

from textrnn.data.batches import (
    BatchLoader,
    collate,
    deal,
    device_share,
    padding_share,
    plan_epoch,
    share_cells,
    waiting_share,
)
from textrnn.data.review_file import REVIEWS, ROWS_PER_BATCH, ReviewWriter, Split

# Lightning 2.6 asks torch 2.13 for a tree specification in a way that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=400).map(lambda n: np.array(n, dtype=np.int32))


def write_split(path: Path, reviews: int, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    ids = [generator.integers(2, 1000, size=generator.integers(1, 60)).tolist() for _ in range(reviews)]
    labels = generator.integers(0, 2, size=reviews).tolist()
    with ReviewWriter(path, REVIEWS) as writer:
        for start in range(0, reviews, ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            writer.write(labels[part], [f"review {n}" for n in range(reviews)][part], ids[part])
    return Split(path)


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
        shares = [deal(step, lengths, rank, world_size) for rank in range(world_size)]
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
        shares = [deal(step, lengths, rank, world_size)[0] for rank in range(world_size)]
        cells = [len(rows) * int(lengths[rows].max()) for rows in shares]
        assert share_cells(step, lengths, world_size).tolist() == cells
        slowest, mean = slowest + max(cells), mean + float(np.mean(cells))
        # The last card of every process is among the step's longest, one a process; the least of them bounds the rest.
        ordered = np.sort(lengths[step]).tolist()
        reviews = len(ordered)
        last_cards = ordered[-world_size] if reviews >= world_size else ordered[0]
        most, least = -(-reviews // world_size), max(1, reviews // world_size)
        assert max(cells) <= most * ordered[-1]
        assert max(cells) / np.mean(cells) <= most * ordered[-1] / (least * last_cards)
        assert sum(cells[:reviews]) <= reviews * ordered[-1], "no more padding than in one process, fillers aside"
    assert waiting_share(plan, lengths, world_size) == pytest.approx(1 - mean / slowest)
    assert waiting_share(plan, lengths, 1) == 0


def test_a_plan_follows_from_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=5000)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [step.tolist() for step in plan_epoch(lengths, batch_size=32, seed=seed, epoch=epoch)]

    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1)
    assert plan(0, 0) != plan(1, 0)
    assert plan(0, 1) != plan(1, 0)


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


class Recorder(pl.LightningModule):
    """Trains one number and remembers which reviews came."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["indices"].tolist()))
        loss: torch.Tensor = (self.weight * batch["lengths"].float().mean()).sum()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", 0.0, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def fit(
    split: Split,
    folder: Path,
    *,
    resume: Path | None = None,
    max_steps: int = -1,
    save: dict[str, Any],
    ahead: int = 0,
    **trainer: Any,
) -> Recorder:
    model = Recorder()
    checkpoint = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **save)
    fitted = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        max_steps=max_steps,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **trainer,
    )

    def loader(shuffle: bool, epoch: Callable[[], int]) -> BatchLoader:
        settings: dict[str, Any] = {"batch_size": 4, "max_length": 50, "truncate": "tail", "seed": 1}
        return BatchLoader(split, shuffle=shuffle, epoch=epoch, ahead=ahead, **settings)

    def epoch() -> int:
        progress = fitted.fit_loop.epoch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        return progress.processed

    train = loader(True, epoch)
    fitted.fit(model, train, loader(False, lambda: 0), ckpt_path=resume, weights_only=True)
    return model


@pytest.mark.parametrize(
    ("save", "places"),
    [
        pytest.param({"every_n_train_steps": 1}, (3, 9), id="mid-epoch"),
        pytest.param({"every_n_train_steps": 1}, (1, 2), id="start"),
        pytest.param({"every_n_train_steps": 1}, (5, 7), id="over-an-epochs-end"),
        pytest.param({"every_n_epochs": 1, "save_on_train_epoch_end": True}, (6, 12), id="after-an-epoch"),
        pytest.param({"every_n_epochs": 1, "save_on_train_epoch_end": False}, (6, 12), id="after-validation"),
    ],
)
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # each run here has a folder of its own
def test_two_resumes_in_a_row_lose_and_repeat_nothing(
    tmp_path: Path, save: dict[str, Any], places: tuple[int, int], ahead: int
) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)  # 6 steps an epoch, the last of 2 reviews
    whole = fit(split, tmp_path / "whole", save=save, ahead=ahead).seen
    assert len(whole) == 18
    assert len({str(step) for _, step in whole}) == 18
    for epoch in range(3):
        assert sorted(i for e, step in whole for i in step if e == epoch) == list(range(22))
    first, second = places
    again = fit(split, tmp_path / "a", save=save, ahead=ahead, resume=tmp_path / "whole" / f"step={first}.ckpt").seen
    assert again == whole[first:]
    last = fit(split, tmp_path / "b", save=save, ahead=ahead, resume=tmp_path / "a" / f"step={second}.ckpt").seen
    assert last == whole[second:]


def test_a_restored_place_counts_once_and_only_in_its_epoch(tmp_path: Path) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)
    epoch = 1
    loader = BatchLoader(split, batch_size=4, max_length=50, truncate="tail", shuffle=True, epoch=lambda: epoch)
    everything = [batch["indices"].tolist() for batch in loader]
    assert loader.state_dict() == {"epoch": 1, "batch": 6}
    loader.load_state_dict({"epoch": 1, "batch": 4})
    assert loader.state_dict() == {"epoch": 1, "batch": 4}
    assert [batch["indices"].tolist() for batch in loader] == everything[4:]
    assert [batch["indices"].tolist() for batch in loader] == everything
    loader.load_state_dict({"epoch": 0, "batch": 6})
    assert [batch["indices"].tolist() for batch in loader] == everything


def test_batches_made_ahead_are_the_same_and_count_only_when_they_are_handed_out(tmp_path: Path) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)

    def loader(ahead: int) -> BatchLoader:
        return BatchLoader(split, batch_size=4, max_length=50, truncate="tail", shuffle=True, ahead=ahead)

    expected, waiting = list(loader(0)), loader(2)
    for number, (batch, same) in enumerate(zip(waiting, expected, strict=True), 1):
        assert waiting.state_dict() == {"epoch": 0, "batch": number}
        assert all(torch.equal(torch.as_tensor(batch[key]), torch.as_tensor(same[key])) for key in same)  # type: ignore[literal-required]
    waiting.load_state_dict({"epoch": 0, "batch": 4})
    assert [batch["indices"].tolist() for batch in waiting] == [batch["indices"].tolist() for batch in expected[4:]]


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_that_stops_within_an_epoch_continues_with_batches_made_ahead(tmp_path: Path, ahead: int) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)
    loader = BatchLoader(split, batch_size=4, max_length=50, truncate="tail", shuffle=True, ahead=ahead)
    iterator = iter(loader)
    seen = [next(iterator)["indices"].tolist() for _ in range(2)]
    place = loader.state_dict()
    del iterator
    again = BatchLoader(split, batch_size=4, max_length=50, truncate="tail", shuffle=True, ahead=ahead)
    again.load_state_dict(place)
    seen += [batch["indices"].tolist() for batch in again]
    assert seen == [batch["indices"].tolist() for batch in loader]


@pytest.mark.gpu
def test_pinned_batches_hold_the_same(tmp_path: Path) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)
    settings: dict[str, Any] = {"batch_size": 4, "max_length": 50, "truncate": "tail"}
    pinned = BatchLoader(split, ahead=2, pin_memory=True, **settings)
    for batch, same in zip(pinned, BatchLoader(split, **settings), strict=True):
        for key, value in same.items():
            if isinstance(value, torch.Tensor):
                assert batch[key].is_pinned()  # type: ignore[literal-required]
                assert torch.equal(batch[key], value)  # type: ignore[literal-required]
