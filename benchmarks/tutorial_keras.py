"""Worker with the tutorials' models in TensorFlow's Keras, on requests from `tutorials.py`; TensorFlow is needed.

Embedding of 100, two recurrent layers of 64 with dropout 0.5 on their inputs, one logit; Adam 1e-3, batches of 128, the
last 80 tokens, padded in front.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from worker import serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

EMBEDDING_SIZE, UNITS, TOKENS, BATCH_SIZE = 100, 64, 80, 128


class Tutorial:
    """A model in training."""

    def prepare(self, *, cell: str, by_hand: bool, arrays: str, vocab_size: int, seed: int) -> str:
        """Build and trace the model; return TensorFlow's version. `by_hand`: cells in a loop over time."""
        import tensorflow as tf

        self._splits = {}
        with np.load(arrays) as stored:
            for name in ("train", "test"):
                ids = _padded_in_front(stored[f"{name}_ids"], stored[f"{name}_lengths"])
                self._splits[name] = (ids, stored[f"{name}_labels"])
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(seed)
        # The tutorial's cells start from a state of a whole batch, and drop the reviews that don't fill one.
        self._whole_batches = by_hand
        self._model = (_cells if by_hand else _layers)(tf, cell, vocab_size)
        self._model.compile(
            optimizer=tf.keras.optimizers.Adam(1e-3),
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.BinaryAccuracy(threshold=0.0)],
        )
        self._trace()
        return str(tf.__version__)

    def epoch(self) -> tuple[float, float]:
        """Return the seconds of an epoch's training, and the accuracy on the test reviews after it."""
        seconds = self._fit(*self._splits["train"])
        ids, labels = self._splits["test"]
        if self._whole_batches:
            whole = len(ids) // BATCH_SIZE * BATCH_SIZE
            ids, labels = ids[:whole], labels[:whole]
        _, accuracy = self._model.evaluate(ids, labels, batch_size=BATCH_SIZE, verbose=0)
        return seconds, float(accuracy)

    def _trace(self) -> None:
        """Have TensorFlow compile the training step, which is not part of an epoch, and reset the model."""
        ids, labels = self._splits["train"]
        self._model(ids[:BATCH_SIZE])  # makes the variables
        self._model.optimizer.build(self._model.trainable_variables)
        variables = [*self._model.variables, *self._model.optimizer.variables]
        before = [variable.numpy() for variable in variables]
        # With a whole batch and the epoch's last one: each shape may be traced on its own.
        rows = slice(BATCH_SIZE + len(ids) % BATCH_SIZE)
        self._fit(ids[rows], labels[rows])
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def _fit(self, ids: Any, labels: Any) -> float:
        """Train on the reviews; return the seconds from the epoch's start to the end of its last batch.

        Not until `fit` returns: measured from outside, epochs of 8 and 35 s took 10.2 and 41.0 s, as if `fit` polled
        after 10 ms and then after twice as long each time.
        """
        import tensorflow as tf

        times: list[float] = []
        clock = tf.keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_, **__: times.append(time.perf_counter()),
            on_train_batch_end=lambda *_, **__: times.append(time.perf_counter()),
        )
        if self._whole_batches:
            chosen = np.random.default_rng().permutation(len(ids))[: len(ids) // BATCH_SIZE * BATCH_SIZE]
            ids, labels = ids[chosen], labels[chosen]
        self._model.fit(ids, labels, batch_size=BATCH_SIZE, epochs=1, shuffle=True, verbose=0, callbacks=[clock])
        return times[-1] - times[0]


def _layers(tf: Any, cell: str, vocab_size: int) -> Any:
    """Layers on top of each other; SimpleRNN unrolled over time by Keras, as the tutorial has it."""
    layers = tf.keras.layers
    kind: Callable[..., Any] = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]
    unroll = cell == "rnn"
    return tf.keras.Sequential(
        [
            layers.Embedding(vocab_size, EMBEDDING_SIZE),
            kind(UNITS, dropout=0.5, return_sequences=True, unroll=unroll),
            kind(UNITS, dropout=0.5, unroll=unroll),
            layers.Dense(1),
        ]
    )


def _cells(tf: Any, cell: str, vocab_size: int) -> Any:
    """Two cells in a loop over the words, with states that start from zeros."""
    layers = tf.keras.layers
    assert cell == "rnn", "the tutorial writes out plain cells only"

    class Cells(tf.keras.Model):  # type: ignore[misc]  # untyped
        """Embedding, loop, logit."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = layers.Embedding(vocab_size, EMBEDDING_SIZE)
            self.first, self.second = (layers.SimpleRNNCell(UNITS, dropout=0.5) for _ in range(2))
            self.output_layer = layers.Dense(1)

        def call(self, inputs: Any, training: bool = False) -> Any:
            """Logits, (batch, 1), of ids (batch, time)."""
            for each in (self.first, self.second):  # one mask a batch, as Keras' own layers do
                each.reset_dropout_mask()
            states = [tf.zeros((BATCH_SIZE, UNITS)) for _ in range(2)]
            for word in tf.unstack(self.embedding(inputs), axis=1):
                output, (states[0],) = self.first(word, [states[0]], training=training)
                output, (states[1],) = self.second(output, [states[1]], training=training)
            return self.output_layer(output)

    return Cells()


def _padded_in_front(flat: Any, lengths: Any) -> Any:
    """(reviews, TOKENS) int32: the last tokens of reviews that lie one after the other, 0 before them."""
    ids = np.zeros((len(lengths), TOKENS), dtype=np.int32)
    for row, end, length in zip(ids, np.cumsum(lengths), np.minimum(lengths, TOKENS), strict=True):
        row[TOKENS - length :] = flat[end - length : end]
    return ids


def main() -> int:
    """Answer requests until there are no more."""
    tutorial = Tutorial()
    serve(lambda what, **request: getattr(tutorial, what)(**request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
