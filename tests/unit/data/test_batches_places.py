"""The exact place of a loader, in a real trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_stores import write_split
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.progress import _ProcessedTracker

from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split


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
        # A TypedDict's keys are literals, as far as types know.
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
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pinned_batches_hold_the_same(tmp_path: Path) -> None:
    split = write_split(tmp_path / "reviews.arrow", 22)
    settings: dict[str, Any] = {"batch_size": 4, "max_length": 50, "truncate": "tail"}
    pinned = BatchLoader(split, ahead=2, pin_memory=True, **settings)
    for batch, same in zip(pinned, BatchLoader(split, **settings), strict=True):
        for key, value in same.items():
            if isinstance(value, torch.Tensor):  # the key is no literal, as far as types know
                assert batch[key].is_pinned()  # type: ignore[literal-required]
                assert torch.equal(batch[key], value)  # type: ignore[literal-required]
