"""Explanations of texts by a trained run: words of the text as it was given, whatever cuts it into tokens."""

from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint

from textrnn import load
from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.tokenizer import train_tokenizer
from textrnn.evaluation.explanations import Explanation
from textrnn.sharing.trained_model import TrainedModel

TEXT = "A fine film,  with many DULL scenes,<br />and one that's very long: İstanbul 日本."
KINDS = ("word", "keras", "spacy", "bpe")


def model_of(folder: Path, kind: str, *, classes: int = 2, labels: str = "one", **data: object) -> TrainedModel:
    tokenizer = train_tokenizer([TEXT], kind, 300)
    config = DataConfig(source="synthetic", tokenizer=kind, labels_per_text=labels, **data)  # type: ignore[arg-type]
    names = ["negative", "positive"] if classes == 2 else list("abcd"[:classes])
    torch.manual_seed(0)
    model = load(write_checkpoint(folder / "best.ckpt", tokenizer, config, {"classes": names}))
    with torch.no_grad():  # as far from zero as after a training
        for weight in model.network.embedding.parameters():
            weight.mul_(100)
    model.network.double()
    return model


def words_of(explanation: Explanation) -> list[str]:
    return [explanation.text[word.start : word.end] for word in explanation.words]


@pytest.mark.parametrize("kind", KINDS)
def test_each_words_shares_add_up(tmp_path: Path, kind: str) -> None:
    model = model_of(tmp_path, kind)
    for text in (TEXT, "fine", "", " \n"):
        (found,) = model.explain([text])
        (prediction,) = model.predict([text])
        assert (found.text, found.label, found.read) == (text, prediction.label, (0, len(text)))
        assert found.probability == prediction.probabilities[found.label] > 0.5
        assert found.logit == pytest.approx(torch.tensor(found.probability).logit().item(), abs=1e-4)
        assert found.is_complete
        assert found.words
    (found,) = model.explain([TEXT])
    words = words_of(found)
    assert {"A", "fine", "DULL", "long", "İstanbul", "日本"} <= set(words)
    assert all(before.end <= word.start for before, word in zip(found.words, found.words[1:], strict=False))


@pytest.mark.parametrize("kind", ["word", "bpe"])
@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_what_is_cut_off_has_no_word(tmp_path: Path, kind: str, truncate: str) -> None:
    model = model_of(tmp_path, kind, max_length=6, truncate=truncate)
    (found,) = model.explain([TEXT])
    start, end = found.read
    assert (start == 0, end == len(TEXT)) == (truncate == "head", truncate == "tail")
    assert end - start < len(TEXT) / 2
    assert all(start <= word.start < word.end <= end for word in found.words)
    assert found.is_complete
    if kind == "word":  # BPE cuts a word's part into other pieces
        assert model.explain([TEXT[start:end]])[0].logit == pytest.approx(found.logit, abs=1e-6)


def test_occlusion_is_the_difference_to_the_text_with_an_unknown_word(tmp_path: Path) -> None:
    model = model_of(tmp_path, "word")
    (found,) = model.explain([TEXT])
    edited = [f"{TEXT[: word.start]} unheard {TEXT[word.end :]}" for word in found.words]
    sign = 1 if found.label == "positive" else -1
    expected = [found.logit - sign * logit for logit in model.logits(edited).tolist()]
    assert [word.occlusion for word in found.words] == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, expected)) > 1e-3


def test_a_chosen_class_and_the_classes_of_a_text_with_several(tmp_path: Path) -> None:
    model = model_of(tmp_path, "word")
    (for_one,), (for_other,) = (model.explain([TEXT], class_name=name) for name in model.classes)
    assert for_one.logit == pytest.approx(-for_other.logit)
    assert for_one.words[0].share == pytest.approx(-for_other.words[0].share)
    several = model_of(tmp_path, "word", classes=4, labels="many")
    (prediction,) = several.predict([TEXT])
    assert [one.label for one in several.explain([TEXT])] == list(prediction.labels)
    with torch.no_grad():
        several.network.output.bias.fill_(-100)
    assert len(several.explain([TEXT])) == 1
    with pytest.raises(InputError, match="there is no class dull; the classes are negative, positive"):
        model.explain([TEXT], class_name="dull")
    with pytest.raises(InputError, match=r"type explain\(\['A fine"):
        model.explain(TEXT)
