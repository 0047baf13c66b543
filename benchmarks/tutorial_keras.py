"""The tutorials' model in TensorFlow's Keras; see `tutorials.py`, which asks. Runs where TensorFlow is installed.

Embedding of 100, two recurrent layers of 64 with dropout 0.5 on their inputs, one logit; Adam 1e-3, batches of 128.
"""

import os
import sys
import time
from typing import Any

import numpy as np

from worker import serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class Tutorial:
    """A model in training."""

    def prepare(self, *, cell: str, arrays: str, vocab_size: int, batch_size: int) -> str:
        """Build and trace the model; TensorFlow's version."""
        import tensorflow as tf

        layers: Any = tf.keras.layers
        kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]
        self._arrays = np.load(arrays)
        self._batch_size = batch_size
        tf.keras.utils.set_random_seed(0)
        self._model = tf.keras.Sequential(
            [
                layers.Embedding(vocab_size, 100),
                kind(64, dropout=0.5, return_sequences=True),
                kind(64, dropout=0.5),
                layers.Dense(1),
            ]
        )
        self._model.build((None, self._arrays["train_ids"].shape[1]))
        self._model.compile(
            optimizer=tf.keras.optimizers.Adam(1e-3),
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.BinaryAccuracy(threshold=0.0)],
        )
        self._trace()
        return str(tf.__version__)

    def epoch(self) -> tuple[float, float]:
        """Seconds of an epoch's training, and the accuracy on the test reviews after it."""
        started = time.perf_counter()
        self._fit(self._arrays["train_ids"], self._arrays["train_labels"])
        seconds = time.perf_counter() - started
        _, accuracy = self._model.evaluate(
            self._arrays["test_ids"], self._arrays["test_labels"], batch_size=self._batch_size, verbose=0
        )
        return seconds, float(accuracy)

    def _trace(self) -> None:
        """Have TensorFlow compile the training step, which is no part of an epoch, and forget what it learned."""
        self._model.optimizer.build(self._model.trainable_variables)
        variables = [*self._model.variables, *self._model.optimizer.variables]
        before = [variable.numpy() for variable in variables]
        # With a whole batch and the epoch's last one: each shape may be traced on its own.
        rest = len(self._arrays["train_ids"]) % self._batch_size
        rows = slice(self._batch_size + rest)
        self._fit(self._arrays["train_ids"][rows], self._arrays["train_labels"][rows])
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def _fit(self, ids: Any, labels: Any) -> None:
        self._model.fit(ids, labels, batch_size=self._batch_size, epochs=1, shuffle=True, verbose=0)


def main() -> int:
    """Answer until the asking process has no more requests."""
    tutorial = Tutorial()
    serve(lambda what, **request: getattr(tutorial, what)(**request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
