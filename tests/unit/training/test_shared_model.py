"""The folder of a shared model: what doesn't fit together is one sentence, before memory is taken for it."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.shared_runs import write_run
from safetensors.torch import load_file, save_file

from textrnn.base.errors import InputError
from textrnn.sharing.push import write_model
from textrnn.training.checkpoints import load_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run")
    shared = tmp_path / "shared"
    write_model(load_checkpoint(run), shared, "alice/tiny", run, onnx=False)
    return shared


def in_record(*keys: str, value: Any) -> Callable[[Path], None]:
    """What sets a value of the record in config.json."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        inner = content["checkpoint"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(content))

    return change


def file_of(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def in_tokenizer(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps({**content, key: value}))

    return change


def in_weights(name: str, weight: torch.Tensor | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors") | ({} if weight is None else {name: weight})
        if weight is None:
            del weights[name]
        save_file(weights, folder / "model.safetensors")

    return change


NOT_OURS = "not of a model that textrnn push wrote"
FITS_NOT = "its weights don't fit config.json"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (file_of("config.json", b"{"), NOT_OURS),
        (file_of("config.json", b"[1]"), NOT_OURS),
        (file_of("config.json", b"[" * 100_000), NOT_OURS),
        (file_of("config.json", b'{"model_type": "bert"}'), NOT_OURS),
        (file_of("config.json", b"\xff"), "can't be read"),
        (in_record("format", value="1"), "its format is not valid"),
        (in_record("vocab_size", value=True), "its vocab_size is not valid"),
        (in_record("data", value=None), NOT_OURS),
        (in_record("data", "classes", value=["a", 1]), "its classes is not valid"),
        (in_record("temperature", value=math.nan), "its temperature is not valid"),
        (in_record("temperature", value=None), "its temperature is not valid"),
        (in_record("config", "data", "path", value="${oc.env:HOME}"), "its config is not valid"),
        (in_record("config", "model", "hidden", value=4), "there is no key model.hidden"),
        (in_record("config", "model", "cell", value="sru"), "model.cell=sru must be"),
        (in_record("config", "model", "hidden_size", value=-1), "model.hidden_size=-1 must be"),
        (in_record("config", "model", "hidden_size", value=10**9), FITS_NOT),
        (in_record("config", "model", "num_layers", value=10**9), FITS_NOT),
        (in_record("config", "objective", value="language_model"), "labels nothing"),
        (in_record("vocab_size", value=10**12), FITS_NOT),
        (in_record("vocab_size", value=5), "the model 5 tokens"),
        (file_of("tokenizer.json", b"{}"), "not a tokenizer"),
        (in_tokenizer("padding", {"strategy": {"Fixed": 10**9}}), "not a tokenizer"),
        (file_of("model.safetensors", pickle.dumps({"a": 1})), "damaged, or not a safetensors file"),
        (file_of("model.safetensors", b"\xff" * 64), "damaged, or not a safetensors file"),
        (file_of("model.safetensors", b""), "damaged, or not a safetensors file"),
        (in_weights("model.output.bias", None), FITS_NOT),
        (in_weights("model.output.bias", torch.zeros(7)), FITS_NOT),
        (in_weights("model.more", torch.zeros(1)), FITS_NOT),
    ],
)
def test_what_does_not_fit_is_one_sentence(folder: Path, change: Callable[[Path], None], told: str) -> None:
    change(folder)
    with pytest.raises(InputError) as refused:
        load_checkpoint(folder)
    assert told in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: can't be read \(No such file"):
        load_checkpoint(folder)


def test_the_files_are_read_as_they_were_written(folder: Path) -> None:
    read = load_checkpoint(folder)
    written = load_checkpoint(folder.parent / "run")
    assert read.path == folder / "model.safetensors"
    assert read.state_dict.keys() == written.state_dict.keys()
    assert all(torch.equal(read.state_dict[name], weight) for name, weight in written.state_dict.items())
    assert (read.tokenizer_json, read.vocab_size) == (written.tokenizer_json, written.vocab_size)
    assert (read.classes, read.data, read.global_step) == (written.classes, written.data, written.global_step)
    assert read.temperature == (written.temperature or 1.0)
    assert read.config.model == written.config.model
    assert read.identity["seed"] == written.identity["seed"]
