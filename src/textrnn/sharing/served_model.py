"""The model that `textrnn serve` serves: a run's, or that of a folder which `textrnn export` wrote."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from textrnn.base.errors import InputError
from textrnn.model.network import class_probabilities
from textrnn.sharing.trained_model import BATCH_SIZE, LIKELY, Prediction, TrainedModel
from textrnn.training.checkpoints import load_checkpoint


class ServedModel(Protocol):
    """What a server needs of a model."""

    classes: tuple[str, ...]
    many_labels: bool

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Label texts."""


def load_served(path: Path) -> tuple[ServedModel, str]:
    """Load a model and try it, so that the first request finds its kernels compiled; return it and its name.

    Args:
        path: A run directory, a checkpoint or a folder of `textrnn export`.

    Raises:
        InputError: there is none, it can't be read, or the run has diverged.
    """
    model: ServedModel
    if all((path / name).is_file() for name in ("config.json", "tokenizer.json", "predict.py")):
        model, name = ExportedModel(path), path.resolve().name
    else:
        checkpoint = load_checkpoint(path)
        trained = TrainedModel(checkpoint)
        if not all(bool(torch.isfinite(weight).all()) for weight in trained.network.parameters()):
            raise checkpoint.diverged()
        model, name = trained, checkpoint.identity.get("name") or path.stem
    model.predict(["a text"])
    return model, name


class ExportedModel:
    """The model in a folder of `textrnn export`; the folder's `predict.py` is not run.

    Raises:
        InputError: it can't be read, or ONNX Runtime isn't installed.
    """

    def __init__(self, folder: Path) -> None:
        is_onnx = (folder / "model.onnx").is_file()
        if is_onnx and not find_spec("onnxruntime"):
            raise InputError(f'{folder}: needs ONNX Runtime; type pip install "textrnn[onnx]".')
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self.classes = tuple(config["classes"])
            self.many_labels = config["labels_per_text"] == "many"
            self._longest, self._head = config["max_length"], config["truncate"] == "head"
            self._temperature = float(config["temperature"])
            self._unknown, self._padding = config["unknown_id"], config["padding_id"]
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._logits = _onnx_logits(folder) if is_onnx else _torch_logits(folder)
        except Exception as error:  # each library has its own errors
            raise InputError(f"{folder}: can't be read ({error}); type textrnn export again.") from error

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Label texts, in batches of about one length."""
        encoded = [
            self._read(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        found: dict[int, list[float]] = {}
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            found |= zip(batch, self._probabilities([encoded[number] for number in batch]), strict=True)
        return [self._prediction(text, found[number]) for number, text in enumerate(texts)]

    def _read(self, ids: list[int]) -> Tensor:
        ids = ids or [self._unknown]
        return torch.tensor(ids[: self._longest] if self._head else ids[-self._longest :])

    def _probabilities(self, encoded: Sequence[Tensor]) -> list[list[float]]:
        lengths = torch.tensor([len(ids) for ids in encoded])
        token_ids = torch.nn.utils.rnn.pad_sequence(list(encoded), batch_first=True, padding_value=self._padding)
        logits = self._logits(token_ids, lengths) / self._temperature
        rows: list[list[float]] = class_probabilities(logits, many_labels=self.many_labels).tolist()
        return rows

    def _prediction(self, text: str, row: Sequence[float]) -> Prediction:
        likely = tuple(name for name, share in zip(self.classes, row, strict=True) if share > LIKELY)
        best = (self.classes[max(range(len(row)), key=row.__getitem__)],)
        return Prediction(text, likely if self.many_labels else best, dict(zip(self.classes, row, strict=True)))


Logits = Callable[[Tensor, Tensor], Tensor]
"""Token ids (batch, time) and lengths (batch,) -> logits."""


def _onnx_logits(folder: Path) -> Logits:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def logits(token_ids: Tensor, lengths: Tensor) -> Tensor:
        (found,) = session.run(["logits"], {"token_ids": token_ids.numpy(), "lengths": lengths.numpy()})
        return torch.from_numpy(found)

    return logits


def _torch_logits(folder: Path) -> Logits:
    from textrnn.sharing.predict_torch import load

    classifier = load(folder)

    def logits(token_ids: Tensor, lengths: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = classifier(token_ids, lengths)
        return found

    return logits
