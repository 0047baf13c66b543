"""The folder of an exported model: weights, tokenizer, configuration, and a script that labels texts with them."""

import json
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors, replacing_folder
from textrnn.config.schema import PAD_ID, UNK_ID
from textrnn.model.encoder import RecurrentLayer
from textrnn.model.network import TextClassifier
from textrnn.training.checkpoints import Checkpoint

FORMATS = ("onnx", "torch")
TEXTS, BATCH = 256, 32
"""Random texts of the check, and those of a batch."""
TOLERANCE = 1e-5
"""Largest difference of a logit, relative to those above 1."""


def check_format(to: str) -> None:
    """Check that the libraries for a format are installed.

    Raises:
        InputError: one isn't.
    """
    if to == "onnx" and not (find_spec("onnx") and find_spec("onnxruntime")):
        raise InputError('--to onnx needs onnx and onnxruntime; type pip install "textrnn[onnx]", or --to torch.')


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Check that `tokenizer.json` alone can split texts.

    Raises:
        InputError: it can't.
    """
    if checkpoint.config.data.tokenizer == "spacy":
        raise InputError("data.tokenizer=spacy: its words need spaCy, so tokenizer.json alone can't split a text.")


def sound_network(checkpoint: Checkpoint) -> TextClassifier:
    """Return a checkpoint's network.

    Raises:
        InputError: it can't be rebuilt, or the run has diverged.
    """
    network = checkpoint.classifier()
    if any(bool(torch.isnan(weight).any()) for weight in network.parameters()):
        raise checkpoint.diverged()
    return network


def export(checkpoint: Checkpoint, folder: Path, to: str, *, metrics: dict[str, float]) -> float:
    """Write a model to a new folder, and compare its logits with the checkpoint's.

    Args:
        checkpoint: The model.
        folder: The folder, which must not exist.
        to: One of `FORMATS`.
        metrics: The run's final metrics, for `config.json`.

    Returns:
        The largest difference of a logit.

    Raises:
        InputError: the model can't be exported, its logits differ, or the disk refuses.
    """
    check_tokenizer(checkpoint)
    network = sound_network(checkpoint)
    with replacing_folder(folder) as draft, disk_errors(folder.parent):
        (draft / "tokenizer.json").write_text(checkpoint.tokenizer_json, encoding="utf-8")
        content = json.dumps(description(checkpoint, metrics), indent=2, ensure_ascii=False)
        (draft / "config.json").write_text(content + "\n", encoding="utf-8")
        source = Path(__file__).with_name(f"predict_{to}.py")
        (draft / "predict.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        return write_weights(checkpoint, network, draft, to)


def write_weights(checkpoint: Checkpoint, network: TextClassifier, draft: Path, to: str) -> float:
    """Write the weights' file of an export to a folder; return the largest difference of a logit.

    Raises:
        InputError: the logits differ from the network's.
    """
    write = {"onnx": _write_onnx, "torch": _write_torch}[to]
    exported = write(checkpoint, network, draft)
    difference = compare(network, exported, checkpoint.vocab_size, checkpoint.config.data.max_length)
    if difference > TOLERANCE:
        raise InputError(f"{checkpoint.path}: the exported model's logits differ by {difference:.2g}, so it is none.")
    return difference


def description(checkpoint: Checkpoint, metrics: dict[str, float]) -> dict[str, Any]:
    """Return the content of `config.json`."""
    data, model = checkpoint.config.data, checkpoint.config.model
    return {
        "classes": list(checkpoint.classes),
        "labels_per_text": data.labels_per_text,
        "max_length": data.max_length,
        "truncate": data.truncate,
        "padding_id": PAD_ID,
        "unknown_id": UNK_ID,
        "vocab_size": checkpoint.vocab_size,
        "temperature": checkpoint.temperature or 1.0,
        "model": {
            "cell": model.cell,
            "bigrams": model.embedding.bigrams,
            "embedding_size": checkpoint.vocab_size if model.embedding.kind == "onehot" else model.embedding.size,
            "hidden_size": model.hidden_size,
            "num_layers": model.num_layers,
            "bidirectional": model.bidirectional,
            "pooling": model.pooling,
            "nonlinearity": model.nonlinearity,
            "bias": model.bias,
        },
        "metrics": metrics,
        "run": {key: checkpoint.identity.get(key) for key in ("id", "name", "created", "git_commit", "seed")},
        "data": {key: checkpoint.data.get(key) for key in ("fingerprint", "revision")},
        "textrnn": version("textrnn"),
    }


Logits = Callable[[Tensor, Tensor], Tensor]
"""Token ids (batch, time) and lengths (batch,) -> logits."""


def _write_onnx(checkpoint: Checkpoint, network: TextClassifier, draft: Path) -> Logits:
    import onnxruntime

    from textrnn.sharing.onnx_graph import onnx_model

    name = checkpoint.identity.get("name", "")
    many, model = checkpoint.config.data.many_labels(), checkpoint.config.model
    description = f"{name}, trained with textrnn"
    temperature = checkpoint.temperature or 1.0
    graph = onnx_model(network, model, description=description, many_labels=many, temperature=temperature)
    content = graph.SerializeToString()
    (draft / "model.onnx").write_bytes(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def logits(token_ids: Tensor, lengths: Tensor) -> Tensor:
        (found,) = session.run(["logits"], {"token_ids": token_ids.numpy(), "lengths": lengths.numpy()})
        return torch.from_numpy(found)

    return logits


def _write_torch(checkpoint: Checkpoint, network: TextClassifier, draft: Path) -> Logits:
    """torch.export would fix the number of tokens and unroll the recurrence, so the weights go with a small module."""
    from textrnn.sharing.predict_torch import load

    torch.save(plain_state(network, checkpoint.config.model.bias), draft / "model.pt")
    return load(draft)


def plain_state(network: TextClassifier, bias: bool) -> dict[str, Tensor]:
    """Return the parameters under the names of `predict_torch.Classifier`: those of torch's recurrent modules."""
    state = {"output.weight": network.output.weight.data, "output.bias": network.output.bias.data}
    table = network.embedding.table
    onehot = torch.eye(network.embedding.size)
    onehot[PAD_ID] = 0
    state["embedding.weight"] = table.weight.data if isinstance(table, torch.nn.Embedding) else onehot
    if network.embedding.bigrams is not None:
        state["bigrams.weight"] = network.embedding.bigrams.table.weight.data
    initial: list[Tensor] = []
    for number, layer in enumerate(network.encoder.layers):
        assert isinstance(layer, RecurrentLayer)
        for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
            kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if bias else ("weight_ih", "weight_hh")
            for kind, weight in zip(kinds, direction.weights, strict=True):  # type: ignore[arg-type]
                state[f"layers.{kind}_l{number}{suffix}"] = weight.data
            begin = direction.learned_state(1) or direction.zero_state(1)  # type: ignore[operator]
            initial.append(torch.stack(begin).data)
    state["initial"] = torch.stack(initial, dim=1)
    return {name: weight.detach().clone().contiguous() for name, weight in state.items()}


def compare(network: TextClassifier, exported: Logits, vocab_size: int, max_length: int) -> float:
    """Return the largest difference of a logit over random texts of 1 to `max_length` tokens, in batches and alone.

    A logit above 1 counts relative to its size.
    """
    generator = np.random.default_rng(0)
    lengths = np.linspace(1, max_length, TEXTS).round().astype(np.int64)
    generator.shuffle(lengths)
    batches = [lengths[start : start + BATCH] for start in range(0, TEXTS, BATCH)]
    batches += [lengths[place : place + 1] for place in range(0, TEXTS, BATCH)]
    worst = 0.0
    for batch in batches:
        ids = generator.integers(UNK_ID, vocab_size, (len(batch), batch.max()))
        ids[np.arange(batch.max()) >= batch[:, None]] = PAD_ID
        inputs = torch.from_numpy(ids), torch.from_numpy(batch)
        with torch.inference_mode():
            ours, theirs = network(*inputs), exported(*inputs)
        worst = max(worst, float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max()))
    return worst
