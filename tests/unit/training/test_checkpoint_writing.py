"""Checkpoints on a full disk, of which torch says only that it could not write."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from textrnn.training.checkpoint_writing import AtomicCheckpointIO


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_full_disk(checkpoint: Any, name: str) -> None:
        Path(name).symlink_to("/dev/full")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", on_full_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "last.ckpt"))
    assert not list(tmp_path.iterdir())
