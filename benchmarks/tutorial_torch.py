"""Worker with the tutorials' models in PyTorch, recipes or the originals' loops, on requests from `tutorials.py`."""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models import OurTraining, Step
from textrnn.base.process import keep_freed_memory
from textrnn.config.schema import DataConfig, EmbeddingConfig, ModelConfig, OptimizerConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from timing import Stopwatch
from worker import serve

Batch = Mapping[str, Any]


class Reviews:
    """Reviews in memory, as `collate` reads them from a file: all ids one after the other, lengths and labels."""

    def __init__(
        self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64], labels: npt.NDArray[np.int16]
    ) -> None:
        self.lengths, self.labels = lengths, labels
        self._ids, self._ends = ids, np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.labels)

    def token_ids(self, index: int) -> npt.NDArray[np.int32]:
        """A review's ids."""
        return self._ids[self._ends[index] - self.lengths[index] : self._ends[index]]


class GloveRnn(nn.Module):
    """Two recurrent layers over time-major ids with pretrained vectors; the last step's output, padding or not."""

    def __init__(self, config: ModelConfig, vocab_size: int, vectors: Tensor | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding.size)
        if vectors is not None:
            self.embedding.weight.data.copy_(vectors)
        self.rnn = nn.RNN(config.embedding.size, config.hidden_size, num_layers=2, dropout=0.5)
        self.output = nn.Linear(config.hidden_size, 2)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits of the two classes, (batch, 2), of token_ids (batch, time)."""
        outputs, _ = self.rnn(self.embedding(token_ids.T))
        logits: Tensor = self.output(outputs[-1])
        return logits


class FinalStateLstm(nn.Module):
    """One LSTM; its final hidden state, after the padding."""

    def __init__(self, config: ModelConfig, vocab_size: int, vectors: Tensor | None) -> None:  # noqa: ARG002 - as above
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding.size)
        self.lstm = nn.LSTM(config.embedding.size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, 2)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits of the two classes, (batch, 2), of token_ids (batch, time)."""
        _, (hidden, _) = self.lstm(self.embedding(token_ids.T))
        logits: Tensor = self.output(hidden[-1])
        return logits


ORIGINALS: dict[str, Callable[[ModelConfig, int, Tensor | None], nn.Module]] = {
    "torch_rnn_glove": GloveRnn,
    "torch_lstm_wandb": FinalStateLstm,
}


class OriginalTraining:
    """The tutorials' loop: Adam, cross-entropy over two logits, no clipping, loss and accuracy logged at every step."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.logged = (0.0, 0.0)

    def step(self, batch: Batch) -> Tensor:
        """Train on a batch; its loss, detached."""
        self.optimizer.zero_grad()
        logits = self.model(batch["token_ids"])
        loss = cross_entropy(logits, batch["labels"])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        correct = (logits.argmax(dim=1) == batch["labels"]).float().sum()
        self.logged = (loss.item(), 100.0 * correct.item() / len(logits))
        return loss.detach()


class Tutorial:
    """A model in training."""

    def prepare(
        self,
        *,
        way: str,
        system: str,
        model: dict[str, Any],
        data: dict[str, Any],
        optimizer: dict[str, Any],
        clip: float | None,
        arrays: str,
        vocab_size: int,
        seed: int,
    ) -> str:
        """Build the model and warm up on another one; return PyTorch's version.

        Args:
            way: "original", or a precision of our recipe's.
            system: Name of the recipe.
            model: The recipe's model, of which an original takes sizes.
            data: The recipe's data.
            optimizer: The recipe's optimizer.
            clip: The recipe's largest norm of the gradients; an original doesn't clip them.
            arrays: File of the reviews' ids, lengths and labels, and of pretrained vectors.
            vocab_size: Tokens in the vocabulary.
            seed: Of parameters, order and dropout.
        """
        self._original = way == "original"
        if not self._original:  # as the program does
            keep_freed_memory()
        config = ModelConfig(**{**model, "embedding": EmbeddingConfig(**model["embedding"])})
        of_data, of_optimizer = DataConfig(**data), OptimizerConfig(**optimizer)
        with np.load(arrays) as stored:
            vectors = torch.from_numpy(stored["vectors"]) if "vectors" in stored else None
            self._splits = {
                name: Reviews(*(stored[f"{name}_{part}"] for part in ("ids", "lengths", "labels")))
                for name in ("train", "test")
            }
        self._loaders = {
            name: BatchLoader(
                cast(Split, split),
                batch_size=of_data.batch_size,
                max_length=of_data.max_length,
                truncate=of_data.truncate,
                seed=seed,
                shuffle=name == "train",
                epoch=lambda: self._epoch,
                ahead=2,
            )
            for name, split in self._splits.items()
        }
        self._epoch = 0

        def training() -> tuple[nn.Module, Step]:
            torch.manual_seed(seed)
            if self._original:
                original = OriginalTraining(ORIGINALS[system](config, vocab_size, vectors), of_optimizer.lr)
                return original.model, original.step
            ours = OurTraining(
                config, vocab_size, optimizer=of_optimizer, precision=way, seed=seed, vectors=vectors, clip=clip
            )
            return ours.model, ours.step

        self._model, self._step = training()
        for _, batch in zip(range(2), self._loaders["test"], strict=False):
            self._step(cast(Batch, batch))
        self._model, self._step = training()  # an untrained one
        return torch.__version__

    def epoch(self) -> tuple[float, float]:
        """Return the seconds of an epoch's training, and the accuracy on the test reviews after it."""
        self._model.train()
        with Stopwatch() as watch:
            for batch in self._batches("train"):
                self._step(batch)
        self._epoch += 1
        return watch.seconds, self._accuracy()

    @torch.inference_mode()
    def _accuracy(self) -> float:
        self._model.eval()
        correct = 0
        for batch in self._batches("test"):
            if self._original:
                positive = self._model(batch["token_ids"]).argmax(dim=1) == 1
            else:
                positive = self._model(batch["token_ids"], batch["lengths"]) > 0
            correct += int((positive == (batch["labels"] == 1)).sum())
        return correct / len(self._splits["test"])

    def _batches(self, split: str) -> Iterator[Batch]:
        for batch in self._loaders[split]:
            yield cast(Batch, batch)


def main() -> int:
    """Answer requests until there are no more."""
    tutorial = Tutorial()
    serve(lambda what, **request: getattr(tutorial, what)(**request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
