"""The data module inside a real trainer: whole splits, all segments, two processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from support import TESTS

from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.module import ReviewsDataModule
from textrnn.data.store import Store, prepare_store


class Recorder(pl.LightningModule):
    """Remembers which reviews came in each stage and epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[list[int]]] = {}

    def remember(self, stage: str, batch: Any) -> None:
        real = batch["indices"][batch["weights"] == 1]
        self.seen.setdefault(f"{stage} {self.current_epoch}", []).append(real.tolist())

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.remember("train", batch)
        return self.weight.sum() * 0.0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.remember("validation", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.remember("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make(tmp_path: Path, **settings: Any) -> tuple[DataConfig, Store]:
    reviews = SyntheticConfig(train_reviews=130, test_reviews=21)
    data = DataConfig(source="synthetic", synthetic=reviews, cache_dir=str(tmp_path), batch_size=8, **settings)
    return data, prepare_store(data)


def trainer(**settings: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"enable_checkpointing": False, "num_sanity_val_steps": 0} | quiet | settings
    return pl.Trainer(accelerator="cpu", devices=1, **settings)


def rows(steps: list[list[int]]) -> list[int]:
    return sorted(index for step in steps for index in step)


def test_each_stage_sees_its_split_once(tmp_path: Path) -> None:
    data, store = make(tmp_path)
    module, model, runner = ReviewsDataModule(data, store, seed=0), Recorder(), trainer(max_epochs=2)
    runner.fit(model, datamodule=module)
    runner.test(model, datamodule=module, verbose=False)
    for stage in ("train 0", "train 1", "validation 0", "validation 1"):
        assert rows(model.seen[stage]) == list(range(len(store.split(stage.split()[0]))))
    assert model.seen["train 0"] != model.seen["train 1"]
    assert model.seen["validation 0"] == model.seen["validation 1"]
    tests = next(steps for stage, steps in model.seen.items() if stage.startswith("test"))
    assert rows(tests) == list(range(21))


def test_overfit_batches_repeat(tmp_path: Path) -> None:
    data, store = make(tmp_path)
    model = Recorder()
    trainer(max_epochs=3, overfit_batches=2).fit(model, datamodule=ReviewsDataModule(data, store, seed=0))
    assert len(model.seen["train 0"]) == 2
    assert model.seen["train 0"] == model.seen["train 1"] == model.seen["train 2"]


def test_loaders_without_a_trainer_are_whole(tmp_path: Path) -> None:
    data, store = make(tmp_path, max_length=30)
    batches = list(ReviewsDataModule(data, store, seed=0).loader_for("test"))
    assert rows([batch["indices"].tolist() for batch in batches]) == list(range(21))
    lengths = sorted(batch["lengths"].tolist() for batch in batches)
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat)
    assert flat[-1] <= 30


@pytest.mark.parametrize(("typed", "reviews"), [(None, [16, 5]), (9, [9, 9, 3]), (1, [1] * 21)])
def test_evaluation_has_a_batch_size_of_its_own(tmp_path: Path, typed: int | None, reviews: list[int]) -> None:
    data, store = make(tmp_path, eval_batch_size=typed)
    model, runner = Recorder(), trainer(max_epochs=1)
    runner.fit(model, datamodule=(module := ReviewsDataModule(data, store, seed=0)))
    runner.test(model, datamodule=module, verbose=False)
    assert {len(step) for step in model.seen["train 0"]} <= {8, len(store.split("train")) % 8}
    (tests,) = (steps for stage, steps in model.seen.items() if stage.startswith("test"))
    assert sorted(map(len, tests), reverse=True) == reviews
    assert max(map(len, model.seen["validation 0"])) == min(reviews[0], len(store.split("validation")))


def test_the_seed_decides_the_order(tmp_path: Path) -> None:
    data, store = make(tmp_path)
    orders = []
    for seed in (0, 0, 1):
        module = ReviewsDataModule(data, store, seed=seed)
        module.trainer = trainer()
        orders.append([batch["indices"].tolist() for batch in module.train_dataloader()])
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_every_stage_reads_the_end_that_is_asked_for(tmp_path: Path, truncate: str) -> None:
    data, store = make(tmp_path, max_length=7, truncate=truncate)
    module = ReviewsDataModule(data, store, seed=0)
    module.trainer = trainer()
    loaders = {"train": module.train_dataloader(), "validation": module.val_dataloader()}
    for name, loader in (loaders | {"test": module.test_dataloader()}).items():
        split, longest = store.split(name), 0
        for batch in loader:
            for index, ids in zip(batch["indices"].tolist(), batch["token_ids"].tolist(), strict=True):
                whole = split.token_ids(index).tolist()
                read = whole[:7] if truncate == "head" else whole[-7:]
                assert ids[: len(read)] == read
                longest = max(longest, len(whole))
        assert longest > 7


def test_an_epoch_is_a_segment(tmp_path: Path) -> None:
    data, store = make(tmp_path, segment_size=50)
    module, model = ReviewsDataModule(data, store, seed=0), Recorder()
    assert module.reload_dataloaders_every_n_epochs == 1
    trainer(max_epochs=4, reload_dataloaders_every_n_epochs=1).fit(model, datamodule=module)
    sizes = [len(rows(model.seen[f"train {epoch}"])) for epoch in range(4)]
    assert sizes[:2] == [50, 50]
    assert 0 < sizes[2] < 50  # the rest of the pass
    assert sizes[3] == 50
    assert model.seen["train 0"] != model.seen["train 3"]
    assert rows(model.seen["validation 3"]) == list(range(len(store.split("validation"))))
    assert module.waited_seconds > 0
    assert not (tmp_path / "segments").exists()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")  # a resumed run goes on in its own
def test_a_run_resumed_within_a_segment_sees_the_rest_of_it_and_the_next(tmp_path: Path) -> None:
    data, store = make(tmp_path, segment_size=50)

    def fit(resume: Path | None) -> dict[str, list[list[int]]]:
        model = Recorder()
        saves = ModelCheckpoint(tmp_path / "checkpoints", filename="{step}", every_n_train_steps=9, save_top_k=-1)
        settings: dict[str, Any] = {"callbacks": [saves], "enable_checkpointing": True, "max_epochs": 3}
        runner = trainer(reload_dataloaders_every_n_epochs=1, **settings)
        runner.fit(model, datamodule=ReviewsDataModule(data, store, seed=0), ckpt_path=resume, weights_only=True)
        return model.seen

    whole = fit(None)
    rest = fit(tmp_path / "checkpoints" / "step=9.ckpt")  # epoch 1, after 2 of 7 steps
    assert rest["train 1"] == whole["train 1"][2:]
    assert rest["train 2"] == whole["train 2"]
    assert "train 0" not in rest


DISTRIBUTED = """
import json, sys
import pytorch_lightning as pl
from test_module import Recorder, make
from pathlib import Path
from textrnn.data.module import ReviewsDataModule
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data, store = make(folder / "cache", segment_size=50)
    model = Recorder()
    module = ReviewsDataModule(data, store, seed=0)
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=module.reload_dataloaders_every_n_epochs,
    )
    trainer.fit(model, datamodule=module)
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(model.seen))
"""


@pytest.mark.slow
def test_two_processes_share_the_steps_of_one(tmp_path: Path) -> None:
    data, store = make(tmp_path / "cache", segment_size=50)
    alone = Recorder()
    trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(
        alone, datamodule=ReviewsDataModule(data, store, seed=0)
    )
    script = tmp_path / "distributed.py"
    script.write_text(f"import sys\nsys.path[:0] = {[str(TESTS), str(Path(__file__).parent)]!r}\n{DISTRIBUTED}")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shares = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert list(shares[0]) == list(alone.seen)
    for stage, steps in alone.seen.items():
        together = [sorted(first + second) for first, second in zip(shares[0][stage], shares[1][stage], strict=True)]
        assert together == [sorted(step) for step in steps]
    assert not (tmp_path / "cache" / "segments").exists()
