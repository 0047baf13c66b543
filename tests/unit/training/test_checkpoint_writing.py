"""Checkpoints: their temperature; a full disk, of which torch says only that it could not write."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.small_runs import Loader, make_batch, make_module, make_predictions, make_trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from textrnn.config.schema import Config
from textrnn.evaluation.calibration import fit_temperature
from textrnn.training.checkpoint_writing import AtomicCheckpointIO, CheckpointRecord


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_full_disk(checkpoint: Any, name: str) -> None:
        Path(name).symlink_to("/dev/full")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", on_full_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "last.ckpt"))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_has_the_temperature_of_its_own_weights(tmp_path: Path) -> None:
    """`best.ckpt` is of the second of three epochs; `last.ckpt` has other weights, whose temperature isn't known."""
    batches = [make_batch(40, seed=1)]
    predictions, module = make_predictions(batches, monitor="val/loss"), make_module()
    record = CheckpointRecord(
        Config(), tokenizer_json="{}", vocab_size=9, identity={}, data={}, coverage={}, predictions=predictions
    )
    best = ModelCheckpoint(tmp_path, "best", monitor="val/loss", save_on_train_epoch_end=False)
    last = ModelCheckpoint(tmp_path, "last", save_top_k=1, every_n_train_steps=1, save_on_train_epoch_end=False)
    trainer = make_trainer(predictions, record, best, last, max_epochs=2, enable_checkpointing=True)
    trainer.fit(module, Loader([make_batch(20, seed=3)] * 3), Loader(batches))
    assert predictions.validation is not None
    temperature = fit_temperature(predictions.validation.logits, predictions.validation.labels)
    assert temperature is not None
    written = {name: torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("best", "last")}
    assert written["best"]["textrnn"]["temperature"] == temperature == predictions.validation.temperature
    assert written["last"]["textrnn"]["temperature"] is None
    module.model.load_state_dict(
        {name.removeprefix("model."): weights for name, weights in written["best"]["state_dict"].items()}
    )
    module.eval()
    with torch.no_grad():
        logits = module(batches[0]["token_ids"], batches[0]["lengths"])
    assert fit_temperature(logits, batches[0]["labels"]) == pytest.approx(temperature, rel=1e-4)
