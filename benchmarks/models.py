"""Training steps to measure: our classifier's, and the tutorials'."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pack_padded_sequence

from textrnn.config.schema import EmbeddingConfig, ModelConfig, OptimizerConfig
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.loss import training_loss

EMBEDDING_SIZE = 100

Step = Callable[[Mapping[str, Any]], Tensor]
"""Trains on a batch; its loss, detached."""


def model_config(cell: str, hidden_size: int, **changes: Any) -> ModelConfig:
    """Return `model=CELL` with another size, initialized as in its YAML, with one pass a step."""
    recurrent_init = "uniform" if cell == "rnn" else "orthogonal"
    embedding = EmbeddingConfig(size=EMBEDDING_SIZE)
    given = {"recurrent_init": recurrent_init, "embedding": embedding, "adversarial": 0.0, **changes}
    return ModelConfig(cell=cell, hidden_size=hidden_size, **given)


def autocast(precision: str) -> AbstractContextManager[None]:
    """Return the autocast context of Lightning for `trainer.precision`: "32-true" or "bf16-mixed"."""
    if precision == "32-true":
        return nullcontext()
    return cast(AbstractContextManager[None], torch.autocast("cpu", dtype=torch.bfloat16))


class OurTraining:
    """Forward, backward and optimizer of our classifier in a bare loop.

    Args:
        model: The model.
        vocab_size: Tokens in the vocabulary.
        optimizer: The optimizer; its schedule is left out.
        precision: "32-true" or "bf16-mixed".
        seed: Of the parameters.
        vectors: (vocab_size, embedding size) that the embedding starts from; None: random.
        clip: Largest norm of all gradients together; None: they aren't clipped.
        dtype: Of the parameters, and so of everything that is computed from them.
    """

    def __init__(
        self,
        model: ModelConfig,
        vocab_size: int,
        *,
        optimizer: OptimizerConfig | None = None,
        precision: str = "32-true",
        seed: int = 0,
        vectors: Tensor | None = None,
        clip: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        module = ReviewClassifier(
            model, optimizer or OptimizerConfig(), vocab_size=vocab_size, seed=seed, vectors=vectors
        ).to(dtype)
        self.model = module.model
        self.optimizer = cast(torch.optim.Optimizer, cast(dict[str, Any], module.configure_optimizers())["optimizer"])
        if optimizer is not None:  # what the warm-up's first factor made of it
            for group in self.optimizer.param_groups:
                group["lr"] = optimizer.lr
        self.precision, self._clip, self._config = precision, clip, model

    def step(self, batch: Mapping[str, Any]) -> Tensor:
        """Train on a batch; its loss, detached."""
        self.optimizer.zero_grad()
        with autocast(self.precision):
            loss = training_loss(self.model, batch, self._config).loss
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.optimizer.step()
        return loss.detach()


class TutorialClassifier(nn.Module):
    """Embedding -> packed torch kernel -> last states of both directions -> logit, as in the tutorials."""

    def __init__(self, cell: str, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        kernels: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE, padding_idx=0)
        self.kernel = kernels[cell](EMBEDDING_SIZE, hidden_size, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(2 * hidden_size, 1)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits, (batch,), of token_ids (batch, time) with lengths (batch,)."""
        embedded = self.dropout(self.embedding(token_ids))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.kernel(packed)
        hidden: Tensor = state[0] if isinstance(state, tuple) else state
        logits: Tensor = self.output(self.dropout(torch.cat([hidden[0], hidden[1]], dim=1))).squeeze(1)
        return logits


def tutorial_step(cell: str, vocab_size: int, hidden_size: int) -> Step:
    """Return a training step of the tutorial's classifier with Adam."""
    model = TutorialClassifier(cell, vocab_size, hidden_size)
    optimizer = torch.optim.Adam(model.parameters())

    def step(batch: Mapping[str, Any]) -> Tensor:
        optimizer.zero_grad()
        logits = model(batch["token_ids"], batch["lengths"])
        loss = binary_cross_entropy_with_logits(logits, batch["labels"].float())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return loss.detach()

    return step
