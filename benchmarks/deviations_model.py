"""The tutorials' classifiers in plain torch, with the choices that `deviations.py` compares, and their training."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

EMBEDDING_SIZE, HIDDEN = 100, 64
LR, DROPOUT = 1e-3, 0.5
KERNELS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

Batch = Mapping[str, Any]
Correct = npt.NDArray[np.bool_]
"""(reviews,) whether each review of a split was classified correctly, in the split's order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Choices of a tutorial."""

    cell: str = "rnn"
    layers: int = 2
    dropout: str = "inputs"
    """between: on what goes from layer to layer, a mask a token, as torch's `dropout=` does; inputs: on every layer's
    inputs, one mask a review for all its tokens, as Keras' does; tokens: there, a mask a token; none."""
    initialization: str = "keras"
    """keras: Glorot and orthogonal weights, no biases, embedding in +-0.05; torch: everything in +-1/sqrt(hidden) and a
    standard normal embedding; small: torch's, but for Keras' embedding."""
    last: str = "review"
    """The state that is classified: after the review's last token, or after the batch's last step, `padding`."""


class Classifier(nn.Module):
    """Embedding -> torch's layers on top of each other -> one state -> logit.

    Args:
        recipe: The choices.
        vocab_size: Tokens in the vocabulary, `<pad>` (0) included.
        hidden: Units of a layer.
    """

    def __init__(self, recipe: Recipe, vocab_size: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.recipe = recipe
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
        sizes = [EMBEDDING_SIZE] + [hidden] * (recipe.layers - 1)
        self.layers = nn.ModuleList(KERNELS[recipe.cell](size, hidden) for size in sizes)
        self.output = nn.Linear(hidden, 1)
        if recipe.initialization != "torch":
            nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        if recipe.initialization == "keras":
            self._initialise_as_keras(hidden)

    @torch.no_grad()
    def _initialise_as_keras(self, hidden: int) -> None:
        for name, parameter in [*self.layers.named_parameters(), *self.output.named_parameters()]:
            if "bias" in name:
                nn.init.zeros_(parameter)
                if self.recipe.cell == "lstm" and "bias_ih" in name:
                    parameter[hidden : 2 * hidden] = 1.0  # the forget gate's
            elif "weight_hh" in name:
                # One orthogonal matrix for all gates side by side, as Keras draws it.
                nn.init.orthogonal_(parameter)
            else:
                nn.init.xavier_uniform_(parameter)

    def states(self, token_ids: Tensor) -> Tensor:
        """(time, batch, hidden) states of the last layer for token_ids (batch, time)."""
        outputs: Tensor = self.embedding(token_ids.T)
        for number, layer in enumerate(self.layers):
            outputs, _ = layer(self._dropped(outputs, first=number == 0))
        return outputs

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits, (batch,), of token_ids (batch, time), padded behind, with lengths (batch,)."""
        states = self.states(token_ids)
        if self.recipe.last == "padding":
            return self.logits(states[-1])
        return self.logits(states[lengths - 1, torch.arange(len(lengths))])

    def logits(self, state: Tensor) -> Tensor:
        """(batch,) of a state (batch, hidden)."""
        logits: Tensor = self.output(state).squeeze(1)
        return logits

    def _dropped(self, inputs: Tensor, *, first: bool) -> Tensor:
        if not self.training or self.recipe.dropout == "none" or (self.recipe.dropout == "between" and first):
            return inputs
        if self.recipe.dropout == "inputs":
            return inputs * dropout(torch.ones_like(inputs[0]), DROPOUT)
        return dropout(inputs, DROPOUT)


class Training:
    """Adam and cross-entropy, nothing else."""

    def __init__(self, recipe: Recipe, vocab_size: int, *, seed: int, hidden: int = HIDDEN) -> None:
        torch.manual_seed(seed)
        self.model = Classifier(recipe, vocab_size, hidden)
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, fused=True)

    def epoch(self, batches: Iterable[Batch]) -> list[float]:
        """Train on the batches; each one's accuracy as the tutorials log it: before its step, with dropout."""
        self.model.train()
        accuracies = []
        for batch in batches:
            self._optimizer.zero_grad()
            logits = self.model(batch["token_ids"], batch["lengths"])
            loss = binary_cross_entropy_with_logits(logits, batch["labels"].float())
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._optimizer.step()
            accuracies.append(float(_correct(logits, batch).double().mean()))
        return accuracies

    @torch.inference_mode()
    def correct(self, batches: Iterable[Batch]) -> Correct:
        """Return which reviews of a split are classified correctly."""
        self.model.eval()
        found = [
            (batch["indices"], _correct(self.model(batch["token_ids"], batch["lengths"]), batch)) for batch in batches
        ]
        return _in_order(found)

    @torch.inference_mode()
    def correct_after_padding(self, batches: Iterable[Batch], counts: Sequence[int]) -> list[Correct]:
        """The same with the state read some padding tokens after each review's last token; a result a count."""
        self.model.eval()
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in counts]
        for batch in batches:
            token_ids = nn.functional.pad(batch["token_ids"], (0, max(counts)))
            states = self.model.states(token_ids)
            for results, count in zip(found, counts, strict=True):
                state = states[batch["lengths"] - 1 + count, torch.arange(len(batch["labels"]))]
                results.append((batch["indices"], _correct(self.model.logits(state), batch)))
        return [_in_order(results) for results in found]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Results of one training, epoch by epoch."""

    steps: list[list[float]]
    """Accuracy of each batch as it was trained on."""
    validation: list[Correct]
    test: list[Correct]
    train: list[Correct]
    """After the epoch, without dropout; nothing where it was not asked for."""

    @property
    def best_epoch(self) -> int:
        """The first with the highest accuracy on the validation reviews, from 0."""
        return int(np.argmax([correct.mean() for correct in self.validation]))


def fit(
    training: Training, train: Callable[[int], list[float]], epochs: int, splits: Mapping[str, Iterable[Batch]]
) -> Run:
    """Train with `train`, which takes the epoch's number, and evaluate the splits after each epoch."""
    steps = []
    found: dict[str, list[Correct]] = {"validation": [], "test": [], "train": []}
    for number in range(epochs):
        steps.append(train(number))
        for name, batches in splits.items():
            found[name].append(training.correct(batches))
    return Run(steps=steps, **found)


def _correct(logits: Tensor, batch: Batch) -> Tensor:
    correct: Tensor = (logits.detach() > 0) == (batch["labels"] == 1)
    return correct


def _in_order(found: list[tuple[Tensor, Tensor]]) -> Correct:
    indices = torch.cat([rows for rows, _ in found])
    correct = torch.empty(len(indices), dtype=torch.bool)
    correct[indices] = torch.cat([each for _, each in found])
    return correct.numpy()


def binomial_sd(accuracy: float, reviews: int) -> float:
    """Standard deviation of an accuracy over so many reviews that are drawn independently."""
    return math.sqrt(accuracy * (1 - accuracy) / reviews)
