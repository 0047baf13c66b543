"""Labels for texts that spaCy cuts: by the ids that training would have, or not at all."""

import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import spacy
import torch
from doubles.tiny_checkpoint import write_checkpoint
from support import ROOT, Command

from textrnn.checkpoints import load_checkpoint
from textrnn.config import DataConfig
from textrnn.data.tokenizer import train_tokenizer, vocabulary

TEXTS = ["I don't like it!", "It's a fine film.<br />Isn't it?"]


@pytest.fixture
def checkpoint(workplace: Path) -> Path:
    tokenizer = train_tokenizer(TEXTS, "spacy", 100)
    return write_checkpoint(workplace / "best.ckpt", tokenizer, DataConfig(source="synthetic", tokenizer="spacy"))


def test_texts_are_cut_by_spacy_as_in_training(here: Command, checkpoint: Path) -> None:
    told = here("predict.py", str(checkpoint), *TEXTS)
    assert told.returncode == 0, told.stderr
    read = load_checkpoint(checkpoint)
    known = vocabulary(train_tokenizer(TEXTS, "spacy", 100))
    classifier, english = read.classifier(), spacy.blank("en")
    for text, line in zip(TEXTS, told.stdout.splitlines(), strict=True):
        words = [token.lower_ for token in english(text.replace("<br />", " "))]
        ids = torch.tensor([[known.index(word) for word in words]])
        with torch.inference_mode():
            probability = classifier(ids, torch.tensor([len(words)])).sigmoid().item()
        assert json.loads(line)["probability"] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("command", [("predict.py", "best.ckpt", "a film"), ("evaluate.py", "best.ckpt")])
def test_another_version_of_spacy_is_refused(
    here: Command, checkpoint: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7")
    refused = here(*command)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: data.tokenizer=spacy needs spaCy ")
    assert refused.stderr.count("\n") == 1
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["best.ckpt"]


@pytest.fixture
def words(workplace: Path) -> Path:
    data = DataConfig(source="synthetic")
    return write_checkpoint(workplace / "words.ckpt", train_tokenizer(TEXTS, "word", 100), data)


def piped(checkpoint: Path, given: bytes, environment: dict[str, str], *arguments: bytes) -> tuple[int, bytes, bytes]:
    command = [sys.executable, str(ROOT / "predict.py"), str(checkpoint), *(arguments or ("--file", "-"))]
    done = subprocess.run(command, input=given, env=environment, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_texts_are_utf_8_whatever_the_locale(words: Path, environment: dict[str, str]) -> None:
    plain = environment | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = piped(words, "un café\n".encode(), plain)
    assert code == 0, err
    assert json.loads(out)["text"] == "un café"
    for arguments in ((), (b"caf\xe9",)):
        code, out, err = piped(words, b"caf\xe9\n", plain, *arguments)
        assert (code, out) == (2, b"")
        assert b"UTF-8" in err
        assert err.count(b"\n") == 1


def test_a_run_that_has_diverged_labels_nothing(here: Command, words: Path) -> None:
    checkpoint = torch.load(words, weights_only=True)
    for tensor in checkpoint["state_dict"].values():
        if tensor.is_floating_point():
            tensor.fill_(math.nan)
    torch.save(checkpoint, words)
    refused = here("predict.py", str(words), "a film")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "has diverged" in refused.stderr
