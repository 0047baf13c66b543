"""One thread that runs the model on requests that arrive together."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from textrnn.sharing.trained_model import Prediction

MOST_TEXTS = 256
"""Texts after which no more requests join a batch."""


@dataclass(slots=True)
class _Waiting:
    texts: Sequence[str]
    answer: "Future[list[Prediction]]" = field(default_factory=Future)


class Batcher:
    """Predictions of many callers by one thread.

    A request that finds the model idle is answered at once; those that arrive while it computes are its next batch.

    Args:
        predict: Labels texts; called in the thread.
        record: Called in the thread with the number of texts of each batch.
    """

    def __init__(self, predict: Callable[[Sequence[str]], list[Prediction]], record: Callable[[int], None]) -> None:
        self._predict, self._record = predict, record
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> "Future[list[Prediction]]":
        """Queue texts; the result is their predictions, in order. It may be cancelled while it waits."""
        waiting = _Waiting(texts)
        self._queue.put(waiting)
        return waiting.answer

    def close(self) -> None:
        """Answer what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            texts = [text for waiting in batch for text in waiting.texts]
            self._record(len(texts))
            try:
                predictions = iter(self._predict(texts))
                for waiting in batch:
                    waiting.answer.set_result([next(predictions) for _ in waiting.texts])
            except Exception as error:  # the callers raise it
                for waiting in batch:
                    waiting.answer.set_exception(error)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for a request and return it with those behind it; return none after `close`."""
        batch: list[_Waiting] = []
        while sum(len(waiting.texts) for waiting in batch) < MOST_TEXTS and not (batch and self._queue.empty()):
            waiting = self._queue.get()
            if waiting is None:
                self._queue.put(None)  # seen again by the next call
                break
            if waiting.answer.set_running_or_notify_cancel():
                batch.append(waiting)
        return batch
