"""The folder of a model on the Hugging Face Hub: read with as little trust as a stranger's file deserves.

`config.json` has what a checkpoint's record has, the tokenizer and the weights are beside it. Nothing in it is code:
weights are safetensors. Sizes are compared with those in the weights' file before memory is taken for them.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from textrnn.base.errors import InputError
from textrnn.config.compose import from_dict
from textrnn.config.schema import Config, leaves
from textrnn.model.network import TextClassifier
from textrnn.tracking.hub_models import CONFIG, TOKENIZER, WEIGHTS

RECORD = "checkpoint"
"""Key of `config.json` with the parts of a checkpoint other than tokenizer and weights."""
KINDS: dict[str, type] = {
    "format": int,
    "config": dict,
    "vocab_size": int,
    "identity": dict,
    "data": dict,
    "coverage": dict,
    "temperature": float,
    "global_step": int,
    "epoch": int,
}
"""Types of the record's values."""
LARGEST_JSON = 100 * 2**20
"""Bytes of the largest `config.json` and `tokenizer.json` that are read."""
REMEDY = "give a model that textrnn push uploaded"

Shapes = dict[str, tuple[int, ...]]


def is_shared(folder: Path) -> bool:
    """Return whether a folder is one that `textrnn push` has written or uploaded."""
    return (folder / WEIGHTS).is_file()


def read_shared(folder: Path) -> dict[str, Any]:
    """Read a folder that `textrnn push` has written, as the content of a checkpoint file.

    Raises:
        InputError: a file is missing, damaged, too large or doesn't fit the others.
    """
    record = _record(folder / CONFIG)
    tokenizer_json = _text(folder / TOKENIZER)
    _check_tokenizer(folder / TOKENIZER, tokenizer_json, record["vocab_size"])
    state_dict = _weights(folder / WEIGHTS, _config(folder / CONFIG, record), record)
    return {
        "textrnn": {**record, "tokenizer": tokenizer_json},
        "global_step": record["global_step"],
        "epoch": record["epoch"],
        "state_dict": state_dict,
    }


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"{path}: larger than {LARGEST_JSON // 2**20} MB; {REMEDY}.")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error}); {REMEDY}.") from error


def _record(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
        record = content[RECORD]
        wrong = [key for key, kind in KINDS.items() if type(record[key]) is not kind]
        classes = record["data"]["classes"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not of a model that textrnn push wrote; {REMEDY}.") from error
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        wrong.append("classes")
    if not wrong and not 0 < record["temperature"] < math.inf:
        wrong.append("temperature")
    if wrong or "${" in json.dumps(record["config"]):  # OmegaConf would read variables of the environment
        raise InputError(f"{path}: its {wrong[0] if wrong else 'config'} is not valid; {REMEDY}.")
    found: dict[str, Any] = record
    return found


def _config(path: Path, record: dict[str, Any]) -> Config:
    try:
        config = from_dict(record["config"])
    except InputError as error:
        raise InputError(f"{path}: its configuration is not valid: {error}") from error
    for key, item, value in leaves(config):
        if item.metadata and value is not None and not item.metadata["holds"](value):
            raise InputError(f"{path}: {key}={value} must be {item.metadata['wanted']}; {REMEDY}.")
    if config.objective != "classification":
        raise InputError(f"{path}: objective={config.objective} labels nothing; {REMEDY}.")
    return config


def _check_tokenizer(path: Path, tokenizer_json: str, vocab_size: int) -> None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
        if tokenizer.padding or tokenizer.truncation:
            raise ValueError("it pads or truncates")
        largest = max([*tokenizer.get_vocab().values(), *tokenizer.encode("? \u2603 zqxj").ids])
    except Exception as error:  # what the library raises for a file that it can't read
        raise InputError(f"{path}: not a tokenizer ({' '.join(str(error).split())}); {REMEDY}.") from error
    if largest >= vocab_size:
        raise InputError(f"{path}: it has token {largest}, and the model {vocab_size} tokens; {REMEDY}.")


def _weights(path: Path, config: Config, record: dict[str, Any]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
            if shapes != _expected(config, record, shapes):
                raise InputError(f"{path}: its weights don't fit {CONFIG}; {REMEDY}.")
            return {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, or not a safetensors file ({reason}); {REMEDY}.") from error


def _expected(config: Config, record: dict[str, Any], there: Shapes) -> Shapes:
    """Return the shapes of the network's weights; {} if one of them alone has more numbers than the weights there."""
    model, vocab_size, classes = config.model, record["vocab_size"], len(record["data"]["classes"])
    hidden, onehot = model.hidden_size, model.embedding.kind == "onehot"
    size = vocab_size if onehot else model.embedding.size
    largest = max(
        0 if onehot else max(vocab_size, model.embedding.bigrams) * size,
        max(size, hidden * model.num_layers) * hidden,
        0 if classes == 2 else classes * hidden,
    )
    total = sum(math.prod(shape) for shape in there.values())
    if largest > total or model.num_layers > len(there) or vocab_size < 2:
        return {}
    # On torch's device "meta" this would take no memory, but seconds for its imports.
    quick = replace(model, recurrent_init="uniform", implementation="auto")
    with torch.random.fork_rng(devices=[]):
        network = TextClassifier(quick, vocab_size, classes=classes, many_labels=config.data.many_labels())
    return {f"model.{name}": tuple(weight.shape) for name, weight in network.state_dict().items()}
