"""The folder of an exported model: whole, or none; it labels texts without this project."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.small_networks import VOCABULARY, network_of

from textrnn.base.errors import InputError
from textrnn.config.schema import Config, EmbeddingConfig
from textrnn.data.tokenizer import train_tokenizer
from textrnn.sharing import export as exporting
from textrnn.sharing.export import check_format, compare, export
from textrnn.sharing.trained_model import TrainedModel
from textrnn.training.checkpoints import Checkpoint

WORDS = [f"word{chr(97 + number // 5)}{chr(97 + number % 5)}" for number in range(VOCABULARY - 2)]


def checkpoint_of(path: Path, **settings: Any) -> Checkpoint:
    network, model = network_of(**settings)
    config = Config(model=model)
    config.data.max_length = 12
    config.data.labels_per_text = "many" if settings.get("many_labels") else "one"
    classes = ("negative", "positive") if settings.get("classes", 2) == 2 else tuple("abcd")
    return Checkpoint(
        path=path / "best.ckpt",
        config=config,
        tokenizer_json=train_tokenizer([" ".join(WORDS)], "word", VOCABULARY).to_str(),
        identity={"name": "gru s0", "id": "abc"},
        data={"fingerprint": "f", "revision": None, "classes": classes},
        coverage={},
        vocab_size=VOCABULARY,
        classes=classes,
        global_step=1,
        epoch=0,
        state_dict={f"model.{name}": weight for name, weight in network.state_dict().items()},
        best="best.ckpt",
        waited=0,
    )


@pytest.mark.parametrize("settings", [{}, {"cell": "lstm", "initial_state": "learned", "num_layers": 2, "classes": 4}])
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_the_script_in_the_folder_labels_texts_without_this_project(
    tmp_path: Path, to: str, settings: dict[str, Any]
) -> None:
    checkpoint = checkpoint_of(tmp_path, **settings)
    checkpoint.temperature = 0.4
    folder = tmp_path / "out"
    assert export(checkpoint, folder, to, metrics={"val/loss": 0.5}) < 1e-5
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["metrics"], config["classes"]) == ({"val/loss": 0.5}, list(checkpoint.classes))
    text = " ".join(WORDS[:20])  # longer than the model reads
    # Without this project's folders among its modules, and with a module of its name that can't be imported.
    (tmp_path / "textrnn.py").write_text("raise ImportError('not needed')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, folder / "predict.py", text, ""], capture_output=True, text=True, check=True, env=environment
    )
    for line, expected in zip(done.stdout.splitlines(), TrainedModel(checkpoint).predict([text, ""]), strict=True):
        printed = json.loads(line)
        assert {name: printed[name] for name in expected.probabilities} == pytest.approx(
            expected.probabilities, abs=1e-5
        )
        assert printed["label"] == expected.label


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"cell": cell, "bidirectional": both, "pooling": "last"}
            for cell in ("rnn", "gru")
            for both in (False, True)
        ),
        {"cell": "rnn", "nonlinearity": "relu", "pooling": "max_mean"},
        {"bias": False, "pooling": "mean", "num_layers": 2},
        {"embedding": EmbeddingConfig(size=5, bigrams=64)},
        {"many_labels": True},
    ],
    ids=str,
)
def test_plain_torch_has_the_logits_of_the_network(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert export(checkpoint_of(tmp_path, **settings), tmp_path / "out", "torch", metrics={}) < 1e-5


def test_what_differs_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "compare", lambda *_: 0.1)
    with pytest.raises(InputError, match="the exported model's logits differ"):
        export(checkpoint_of(tmp_path), tmp_path / "out", "torch", metrics={})
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_sees_a_difference_at_any_length() -> None:
    network, _ = network_of()
    assert compare(network, network, VOCABULARY, 20) == 0
    for length in (1, 20):  # the shortest and the longest text
        wrong = lambda ids, lengths, at=length: network(ids, lengths) + 0.01 * (lengths == at)  # noqa: E731
        assert compare(network, wrong, VOCABULARY, 20) == pytest.approx(0.01, rel=0.5)


def test_models_that_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoint_of(tmp_path)
    checkpoint.config.data.tokenizer = "spacy"
    with pytest.raises(InputError, match="need spaCy"):
        export(checkpoint, tmp_path / "out", "torch", metrics={})
    checkpoint = checkpoint_of(tmp_path)
    checkpoint.state_dict["model.output.bias"] = torch.full((1,), torch.nan)
    with pytest.raises(InputError, match="diverged"):
        export(checkpoint, tmp_path / "out", "torch", metrics={})
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        check_format("onnx")
    assert list(tmp_path.iterdir()) == []
