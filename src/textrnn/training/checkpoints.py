"""Checkpoints that load anywhere and never run code.

A checkpoint is Lightning's with one more key, `textrnn`: the resolved configuration, the tokenizer and the run's
identity as plain values. It is always read with `weights_only=True`, and written to a temporary name and renamed.
"""

import pickle
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.compose import from_dict
from textrnn.config.schema import Config
from textrnn.model.network import TextClassifier
from textrnn.tracking.hub_models import WEIGHTS
from textrnn.training.shared_model import is_shared, read_shared

FORMAT = 1


@dataclass(kw_only=True, slots=True)
class Checkpoint:
    """Content of a checkpoint file, read and checked."""

    path: Path
    config: Config
    tokenizer_json: str
    identity: dict[str, Any]
    data: dict[str, Any]
    """The token store that the run was trained on; see `Store.record`."""
    coverage: dict[str, float]
    """Coverage by the pretrained vectors that the run started from; empty without."""
    vocab_size: int
    classes: tuple[str, ...]
    """Names of the classes, by id."""
    global_step: int
    epoch: int
    state_dict: dict[str, torch.Tensor]
    best: str
    """Name of the file with the best weights so far; "" if none have been chosen."""
    waited: int
    """Validations since then, as early stopping counts them; 0 without early stopping."""
    temperature: float | None = None
    """What logits are divided by for calibrated probabilities, fitted on validation; None: nothing."""

    def diverged(self) -> InputError:
        """Return the error for NaN logits."""
        return InputError(f"{self.path}: its weights give NaN, so the run has diverged; name another one.")

    def classifier(self) -> TextClassifier:
        """Rebuild the network with the stored weights, in evaluation mode.

        Raises:
            InputError: if weights and configuration don't fit, or for a language model.
        """
        if self.config.objective != "classification":
            raise InputError(
                f"{self.path} is a language model, which labels nothing; train a classifier from it by "
                "model.pretrained=RUN, and name that run."
            )
        # The initial weights are replaced, so they are not orthogonal, which takes over a second on busy cores. The
        # parameters fit every implementation, and that of the training may not run here.
        quick = replace(self.config.model, recurrent_init="uniform", implementation="auto")
        with torch.random.fork_rng(devices=[]):
            many = self.config.data.many_labels()
            network = TextClassifier(quick, self.vocab_size, classes=len(self.classes), many_labels=many)
        try:
            # The stored weights are named after `model`, an attribute of the training module.
            nn.ModuleDict({"model": network}).load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise InputError(f"{self.path}: its weights don't fit its configuration ({error}).") from error
        return network.eval()


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file as plain values and tensors.

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
        # torch raises different errors for a truncated file, depending on its length.
        raise InputError(f"{path}: truncated or not a checkpoint; give another, such as best.ckpt.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: not a checkpoint of this project.")
    return checkpoint


def load_checkpoint(run: Path) -> Checkpoint:
    """Read a checkpoint file, or the best one of a run directory (the last, where none was chosen).

    A folder that `textrnn push` has written is read too.

    Raises:
        InputError: if there is none or it can't be read.
    """
    path = run = typed_path(run, str(run))
    if is_shared(run):
        return _checked(run / WEIGHTS, read_shared(run))
    if run.is_dir():
        candidates = [run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if not found:
            raise InputError(f"{run} has no checkpoints/best.ckpt or last.ckpt; give another run directory.")
        path = found[0]
    elif not run.exists():
        raise InputError(f"{run}: there is no such run directory or checkpoint.")
    read = _checked(path, read_checkpoint(path))
    if run.is_dir() and read.best and path.name != read.best:
        raise InputError(f"{path.parent / read.best} is gone, the best weights of the run; {path} has its last ones.")
    return read


def _checked(path: Path, checkpoint: dict[str, Any]) -> Checkpoint:
    """Return the content of a checkpoint file as a `Checkpoint`.

    Raises:
        InputError: it is not of this project or version.
    """
    record = checkpoint.get("textrnn")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of this project (no textrnn record of format {FORMAT}).")
    callbacks = checkpoint.get("callbacks", {})
    try:
        return Checkpoint(
            path=path,
            config=from_dict(record["config"]),
            tokenizer_json=record["tokenizer"],
            identity=record["identity"],
            data=record["data"],
            coverage=record["coverage"],
            vocab_size=record["vocab_size"],
            classes=tuple(record["data"]["classes"]),
            global_step=checkpoint["global_step"],
            epoch=checkpoint["epoch"],
            state_dict=checkpoint["state_dict"],
            best=_best(callbacks),
            temperature=record.get("temperature"),  # earlier versions did not store it
            waited=max((state.get("wait_count", 0) for state in callbacks.values()), default=0),
        )
    except KeyError as error:
        raise InputError(f"{path}: its record has no {error}; it was not written by this version.") from error


def _best(callbacks: dict[str, Any]) -> str:
    """Return the file of Lightning's callback that keeps checkpoints by a monitored metric."""
    for state in callbacks.values():
        if state.get("monitor") and state.get("best_model_path"):
            return Path(state["best_model_path"]).name
    return ""
