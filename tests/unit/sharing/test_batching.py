"""Requests that arrive while the model computes are its next batch; each gets its own answer."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from textrnn.sharing.batching import MOST_TEXTS, Batcher
from textrnn.sharing.trained_model import Prediction


class Model:
    """Its answer is the text itself; it waits while `ready` is cleared, and fails on a text."""

    def __init__(self) -> None:
        self.ready, self.began = threading.Event(), threading.Event()
        self.ready.set()

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        self.began.set()
        assert self.ready.wait(30)
        if "fail" in texts:
            raise ValueError("a defect")
        return [Prediction(text, (text,), {text: 1.0}) for text in texts]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batches() -> list[int]:
    return []


@pytest.fixture
def batcher(model: Model, batches: list[int]) -> Iterator[Batcher]:
    running = Batcher(model.predict, batches.append)
    yield running
    running.close()


def test_what_arrives_while_the_model_computes_is_one_batch(batcher: Batcher, model: Model, batches: list[int]) -> None:
    model.ready.clear()
    first = batcher.submit(["first"])
    assert model.began.wait(30)
    later = [batcher.submit([f"{number}", f"{number} too"]) for number in range(5)]
    late = batcher.submit(["cancelled"])
    assert late.cancel()
    full = [batcher.submit(["full"] * MOST_TEXTS), batcher.submit(["after"])]
    model.ready.set()
    assert first.result(30)[0].label == "first"
    for number, answer in enumerate(later):
        assert [one.text for one in answer.result(30)] == [f"{number}", f"{number} too"]
    assert [len(answer.result(30)) for answer in full] == [MOST_TEXTS, 1]
    assert batches == [1, 10 + MOST_TEXTS, 1]


def test_an_error_is_the_callers_and_the_thread_stays(batcher: Batcher) -> None:
    with pytest.raises(ValueError, match="a defect"):
        batcher.submit(["fail"]).result(30)
    assert batcher.submit(["next"]).result(30)[0].label == "next"


def test_what_is_queued_is_answered_before_the_end(model: Model) -> None:
    model.ready.clear()
    batcher = Batcher(model.predict, lambda texts: None)
    answers = [batcher.submit(["a"]) for _ in range(3)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.ready.set()
    assert [answer.result(30)[0].label for answer in answers] == ["a"] * 3
    closing.join(30)
    assert not closing.is_alive()
