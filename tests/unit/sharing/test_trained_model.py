"""A trained run in Python: any number of texts in any order, each as if it were alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint

from textrnn import load
from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.tokenizer import train_tokenizer
from textrnn.sharing import trained_model
from textrnn.sharing.trained_model import TrainedModel

WORDS = ["a", "fine", "film", "with", "many", "dull", "scenes", "and", "one", "that", "is", "very", "long"]
TEXTS = [" ".join((WORDS * 3)[start : start + length]) for start in range(5) for length in (0, 1, 7, 30, 3)]


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", 100)
    return load(write_checkpoint(tmp_path / "best.ckpt", tokenizer, DataConfig(source="synthetic", max_length=20)))


def test_texts_together_in_any_order_are_as_each_alone(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = torch.cat([model.logits([text]) for text in TEXTS])
    monkeypatch.setattr(trained_model, "BATCH_SIZE", 4)
    together = model.logits(TEXTS)
    assert together.shape == (len(TEXTS),)
    torch.testing.assert_close(together, alone)
    assert len(set(together.tolist())) > 10
    predictions = model.predict(TEXTS)
    assert [prediction.text for prediction in predictions] == TEXTS
    for prediction, logit in zip(predictions, alone.tolist(), strict=True):
        assert prediction.label == model.classes[logit > 0]
        assert prediction.labels == (prediction.label,)
        assert prediction.probabilities[model.classes[1]] == pytest.approx(1 / (1 + 2.718281828 ** (-logit)), abs=1e-6)


def test_the_last_tokens_of_a_long_text_are_read(model: TrainedModel) -> None:
    (ids,) = model.encode([TEXTS[3]])
    assert len(ids) == 20
    model.data.truncate = "head"
    (head,) = model.encode([TEXTS[3]])
    assert (len(head), head[10:]) == (20, ids[:10])


def test_a_stream_is_read_as_far_as_it_is_needed(model: TrainedModel) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "a fine film"

    predictions = model.predict_each(endless())
    for _ in range(64):
        next(predictions)
    assert read == 64
    for _ in range(20_000):
        next(predictions)
    assert read <= 20_000 + 64 + trained_model.WINDOW


def test_no_texts_and_one_string(model: TrainedModel) -> None:
    assert model.predict([]) == []
    assert model.probabilities([]).shape == (0, 2)
    with pytest.raises(InputError, match=r"type predict\(\['a fine film'\]\)"):
        model.predict("a fine film")


def test_a_run_that_diverged(model: TrainedModel) -> None:
    with torch.no_grad():
        model.network.output.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="has diverged"):
        model.predict(["a fine film"])


def test_probabilities_are_calibrated_and_labels_are_not_changed(model: TrainedModel) -> None:
    before, logits = model.predict(TEXTS), model.logits(TEXTS)
    model.temperature = 2.5
    after = model.predict(TEXTS)
    assert torch.equal(model.logits(TEXTS), logits)
    expected = (logits / 2.5).sigmoid()
    torch.testing.assert_close(model.probabilities(TEXTS)[:, 1].float(), expected, rtol=0, atol=1e-6)
    assert [prediction.label for prediction in after] == [prediction.label for prediction in before]


def test_a_threshold_is_that_of_the_second_class_and_of_calibrated_probabilities(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([" ".join(WORDS)], "word", 100)
    path = write_checkpoint(tmp_path / "best.ckpt", tokenizer, DataConfig(source="synthetic", max_length=20))
    content = torch.load(path, weights_only=True)
    content["textrnn"]["temperature"] = 0.25
    torch.save(content, path)
    probabilities = load(path).probabilities(TEXTS)[:, 1]
    different = sorted(set(probabilities.tolist()))
    for threshold in (different[0], different[3], different[-2]):
        found = load(path, threshold=threshold).predict(TEXTS)
        labels = ["positive" if above else "negative" for above in (probabilities > threshold).tolist()]
        assert [prediction.label for prediction in found] == [prediction.labels[0] for prediction in found] == labels


def test_a_threshold_of_several_labels_and_of_more_classes(tmp_path: Path) -> None:
    tokenizer, data = train_tokenizer([" ".join(WORDS)], "word", 100), DataConfig(source="synthetic")
    path = write_checkpoint(tmp_path / "best.ckpt", tokenizer, data, {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match="of the 3 classes of this run a text has the most probable one"):
        load(path, threshold=0.5)
    content = torch.load(path, weights_only=True)
    content["textrnn"]["config"]["data"]["labels_per_text"] = "many"
    torch.save(content, path)
    (plain,) = load(path).predict(["a fine film"])
    middle = sorted(plain.probabilities.values())[1]
    (found,) = load(path, threshold=middle).predict(["a fine film"])
    assert found.labels == (max(plain.probabilities, key=lambda name: plain.probabilities[name]),)
    assert len(load(path, threshold=1e-6).predict(["a fine film"])[0].labels) == 3
