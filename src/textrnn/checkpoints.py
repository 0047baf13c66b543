"""Checkpoints that survive a kill, load anywhere and never run code.

A checkpoint is Lightning's, plus one key, `textrnn`: the resolved configuration, the tokenizer and the run's identity
as plain values. Files are written beside and renamed, and always read with `weights_only=True`.
"""

import pickle
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from textrnn.compose import from_dict
from textrnn.config import Config
from textrnn.errors import InputError
from textrnn.model.classifier import ReviewClassifier
from textrnn.tracking.rundir import replacing

FORMAT = 1


@dataclass(kw_only=True, slots=True)
class Checkpoint:
    """What a checkpoint file holds, read and checked."""

    path: Path
    config: Config
    tokenizer_json: str
    identity: dict[str, Any]
    data: dict[str, Any]
    """Fingerprint and name of the token store that the run was trained on."""
    vocab_size: int
    global_step: int
    epoch: int
    state_dict: dict[str, torch.Tensor]

    def classifier(self) -> ReviewClassifier:
        """Rebuilds the model with the stored weights, in evaluation mode.

        Raises:
            InputError: if weights and configuration don't fit.
        """
        module = ReviewClassifier(
            self.config.model, self.config.optimizer, vocab_size=self.vocab_size, seed=self.config.seed
        )
        try:
            module.load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise InputError(f"{self.path}: its weights don't fit its configuration ({error}).") from error
        return module.eval()


class AtomicCheckpointIO(CheckpointIO):
    """Writes a checkpoint beside its place and renames it; reads only tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes so that `path` always holds a whole checkpoint: the previous one or this one."""
        del storage_options
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            # By name: Ctrl-C in a Python file's `write` would come out of torch as another error, or as an abort.
            torch.save(checkpoint, str(beside))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Reads a checkpoint; code in it is refused, whatever `weights_only` says."""
        del weights_only
        return read_checkpoint(Path(path), map_location=map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


class CheckpointRecord(Callback):
    """Adds to each checkpoint what is needed to load it anywhere."""

    def __init__(
        self, config: Config, *, tokenizer_json: str, vocab_size: int, identity: dict[str, Any], data: dict[str, Any]
    ) -> None:
        self._record = {
            "format": FORMAT,
            "config": asdict(config),
            "tokenizer": tokenizer_json,
            "vocab_size": vocab_size,
            "identity": identity,
            "data": data,
        }

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning when it has gathered a checkpoint."""
        del trainer, pl_module
        checkpoint["textrnn"] = self._record
        # A checkpoint after a step is taken before Lightning 2.6 counts that batch as completed; a resumed run would
        # count one batch less than it has seen.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            counts["completed"] = counts["processed"]


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint file as plain values and tensors.

    Raises:
        InputError: for a file that is missing, truncated, not a checkpoint, or holds pickled code (which never runs).
    """
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that are not its own; they are refused below.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint.") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: it holds objects or code, which is refused; give a checkpoint of train.py."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        # What torch raises for a broken file depends on where it breaks off.
        raise InputError(f"{path}: truncated or not a checkpoint; give another, such as best.ckpt.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: not a checkpoint of this project.")
    return checkpoint


def load_checkpoint(run: Path) -> Checkpoint:
    """Reads a checkpoint file, or the best one (else the last) of a run directory.

    Raises:
        InputError: if there is none or it can't be read.
    """
    path = run
    if run.is_dir():
        candidates = [run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if not found:
            raise InputError(f"{run} holds no checkpoints/best.ckpt or last.ckpt; give another run directory.")
        path = found[0]
    elif not run.exists():
        raise InputError(f"{run}: there is no such run directory or checkpoint.")
    checkpoint = read_checkpoint(path)
    record = checkpoint.get("textrnn")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of this project (no textrnn record of format {FORMAT}).")
    try:
        return Checkpoint(
            path=path,
            config=from_dict(record["config"]),
            tokenizer_json=record["tokenizer"],
            identity=record["identity"],
            data=record["data"],
            vocab_size=record["vocab_size"],
            global_step=checkpoint["global_step"],
            epoch=checkpoint["epoch"],
            state_dict=checkpoint["state_dict"],
        )
    except KeyError as error:
        raise InputError(f"{path}: its record lacks {error}; it was not written by this version.") from error
