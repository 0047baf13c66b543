"""Writing checkpoints: atomically, with everything needed to load them anywhere.

`checkpoints.py` describes a checkpoint's content and reads it, without Lightning.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from textrnn.base.files import replacing
from textrnn.config.schema import Config
from textrnn.evaluation.predictions import Predictions
from textrnn.training.checkpoints import FORMAT, read_checkpoint


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically; read only tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write so that `path` always holds a whole checkpoint: the previous one or this one."""
        del storage_options
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            try:
                # By name: Ctrl-C in a Python file's `write` would come out of torch as another error, or as an abort.
                torch.save(checkpoint, str(beside))
            except RuntimeError:
                _write_more(beside)
                raise

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; code in it is refused, whatever `weights_only` is."""
        del weights_only
        return read_checkpoint(Path(path), map_location=map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


def _write_more(file: Path) -> None:
    """Raise the OSError of a disk that is full, where there is one: torch does not say why it could not write."""
    with file.open("ab") as more:
        more.write(bytes(1 << 20))


class CheckpointRecord(Callback):
    """Add everything to each checkpoint that is needed to load it anywhere.

    That includes the temperature of its weights, if the best validation so far has measured them. So `best.ckpt` has it
    from the start and is written once, whatever ends the run.
    """

    def __init__(
        self,
        config: Config,
        *,
        tokenizer_json: str,
        vocab_size: int,
        identity: dict[str, Any],
        data: dict[str, Any],
        coverage: dict[str, float],
        predictions: Predictions | None,
    ) -> None:
        self._predictions = predictions
        self._record = {
            "format": FORMAT,
            "config": asdict(config),
            "tokenizer": tokenizer_json,
            "vocab_size": vocab_size,
            "identity": identity,
            "data": data,
            "coverage": coverage,
        }

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record to Lightning's checkpoint."""
        del pl_module
        measured = self._predictions
        temperature = None if measured is None else measured.temperature_at(trainer.global_step)
        checkpoint["textrnn"] = {**self._record, "temperature": temperature}
