"""The tutorials' model in PyTorch; see `tutorials.py`, which asks: a plain loop around torch's layers, or ours.

Embedding of 100, two recurrent layers of 64 with dropout 0.5, one logit; Adam 1e-3, batches of 128.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models import OurTraining, Step, model_config
from textrnn.allocator import keep_freed_memory
from textrnn.config import OptimizerConfig
from timing import Stopwatch
from worker import serve

Batch = Mapping[str, Any]


class PlainClassifier(nn.Module):
    """As the tutorials write it: padded batches of one length through torch's layers."""

    def __init__(self, cell: str, vocab_size: int) -> None:
        super().__init__()
        kernels: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.embedding = nn.Embedding(vocab_size, 100)
        self.kernel = kernels[cell](100, 64, num_layers=2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(64, 1)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits, (batch,), of token_ids (batch, time)."""
        states, _ = self.kernel(self.dropout(self.embedding(token_ids)))
        logits: Tensor = self.output(states[:, -1]).squeeze(1)
        return logits


def plain_training(cell: str, vocab_size: int) -> tuple[nn.Module, Step]:
    """The plain classifier and its training step."""
    torch.manual_seed(0)
    model = PlainClassifier(cell, vocab_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(batch["token_ids"]), batch["labels"].float())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return loss.detach()

    return model, step


def our_training(cell: str, vocab_size: int, precision: str) -> tuple[nn.Module, Step]:
    """Our classifier in the tutorials' shape, and its training step."""
    model = model_config(
        cell,
        64,
        num_layers=2,
        bidirectional=False,
        pooling="last",
        word_dropout=0.0,
        embedding_dropout=0.5,
        dropout=0.5,
        output_dropout=0.0,
    )
    optimizer = OptimizerConfig(lr=1e-3, weight_decay=0.0, warmup_steps=0, schedule="constant")
    training = OurTraining(model, vocab_size, optimizer=optimizer, precision=precision)
    return training.model, training.step


class Tutorial:
    """A model in training."""

    def prepare(self, *, way: str, cell: str, arrays: str, vocab_size: int, batch_size: int) -> str:
        """Build the model and warm up on another one; PyTorch's version. `way`: "plain", or a precision of ours."""
        self._way, self._batch_size = way, batch_size
        if way != "plain":  # as the program does
            keep_freed_memory()
        self._splits = {}
        with np.load(arrays) as stored:
            for name in ("train", "test"):
                ids = stored[f"{name}_ids"] if way == "plain" else _padded_behind(stored[f"{name}_ids"])
                # Where ids are padded in front, a review without a token is left with none; ours reads at least one.
                lengths = np.maximum((ids != 0).sum(axis=1), 1)
                arrays_of_split = (ids.astype(np.int64), lengths, stored[f"{name}_labels"].astype(np.int64))
                self._splits[name] = [torch.from_numpy(array) for array in arrays_of_split]
        self._model, self._step = self._training(cell, vocab_size)
        for batch in islice(self._batches("train", shuffle=False), 2):
            self._step(batch)
        self._model, self._step = self._training(cell, vocab_size)  # an untrained one
        return torch.__version__

    def _training(self, cell: str, vocab_size: int) -> tuple[nn.Module, Step]:
        return plain_training(cell, vocab_size) if self._way == "plain" else our_training(cell, vocab_size, self._way)

    def epoch(self) -> tuple[float, float]:
        """Seconds of an epoch's training, and the accuracy on the test reviews after it."""
        self._model.train()
        with Stopwatch() as watch:
            for batch in self._batches("train", shuffle=True):
                self._step(batch)
        return watch.seconds, self._accuracy()

    @torch.inference_mode()
    def _accuracy(self) -> float:
        self._model.eval()
        correct = 0
        for batch in self._batches("test", shuffle=False):
            inputs = [batch["token_ids"]] if self._way == "plain" else [batch["token_ids"], batch["lengths"]]
            correct += int(((self._model(*inputs) > 0) == (batch["labels"] == 1)).sum())
        return correct / len(self._splits["test"][0])

    def _batches(self, split: str, *, shuffle: bool) -> Iterator[Batch]:
        ids, lengths, labels = self._splits[split]
        rows = torch.randperm(len(ids)) if shuffle else torch.arange(len(ids))
        for part in torch.split(rows, self._batch_size):
            yield {
                "token_ids": ids[part],
                "lengths": lengths[part],
                "labels": labels[part],
                "weights": torch.ones(len(part)),
                "global_batch_size": len(part),
            }


def _padded_behind(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Reviews padded with 0 in front, (reviews, time), with the padding moved behind."""
    order = np.argsort(ids == 0, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)


def main() -> int:
    """Answer until the asking process has no more requests."""
    tutorial = Tutorial()
    serve(lambda what, **request: getattr(tutorial, what)(**request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
