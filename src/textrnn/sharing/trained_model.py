"""A trained run as an object that labels texts: `textrnn.load(RUN)`, and what `predict.py` runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from textrnn.base.errors import InputError
from textrnn.data.tokenizer import TokenSpan, encode_batch, load_tokenizer, token_spans
from textrnn.evaluation.explanations import Explanation, Word, integrated_gradients, log_odds, occlusion
from textrnn.evaluation.threshold import check_classes
from textrnn.model.network import class_probabilities
from textrnn.training.checkpoints import Checkpoint

BATCH_SIZE = 64
WINDOW = 64 * BATCH_SIZE
"""Texts that are sorted by length at a time, so that a batch has texts of about one length."""
LIKELY = 0.5
"""Probability above which a text has a label, where it may have several."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a text."""

    text: str
    labels: tuple[str, ...]
    """The most probable class or, where a text may have several labels, all that are likely.

    Of two classes, the second one where its probability is above a threshold that was given, and else the first."""
    probabilities: dict[str, float]
    """Of all classes, by name."""

    @property
    def label(self) -> str:
        """The label, or the most probable class where a text has none or several."""
        return (
            self.labels[0]
            if len(self.labels) == 1
            else max(self.probabilities, key=lambda name: self.probabilities[name])
        )


class TrainedModel:
    """A run's network, tokenizer and classes.

    Args:
        checkpoint: The run's checkpoint.
        threshold: Probability above which a text has the second of two classes, or each of several labels; None: 0.5.

    Raises:
        InputError: for a language model, weights that don't fit their configuration, or a threshold for more classes.
    """

    def __init__(self, checkpoint: Checkpoint, *, threshold: float | None = None) -> None:
        if threshold is not None:
            check_classes(len(checkpoint.classes), many_labels=checkpoint.config.data.many_labels())
        self.threshold = LIKELY if threshold is None else threshold
        self.checkpoint = checkpoint
        self.temperature = checkpoint.temperature or 1.0
        self.classes = checkpoint.classes
        self.data = checkpoint.config.data
        self.many_labels = self.data.many_labels()
        self.network = checkpoint.classifier()
        self.tokenizer = load_tokenizer(checkpoint.tokenizer_json)
        self._device = torch.device("cpu")

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Label texts; empty ones too, whose labels mean nothing.

        Raises:
            InputError: the run has diverged, or one string is given instead of a list.
        """
        if isinstance(texts, str):
            raise InputError(f"predict takes a list of texts; type predict([{texts[:20]!r}]).")
        return list(self.predict_each(texts))

    def predict_each(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Yield the prediction of each text in their order, in flat memory, however many there are.

        The first comes after 64 texts, later ones in larger windows that are sorted by length.

        Raises:
            InputError: the run has diverged.
        """
        stream, size = iter(texts), BATCH_SIZE
        while window := list(islice(stream, size)):
            for text, row in zip(window, self.probabilities(window).tolist(), strict=True):
                yield Prediction(text, self.labels(row), dict(zip(self.classes, row, strict=True)))
            size = min(2 * size, WINDOW)

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Return the probability of each class for each text, (texts, classes) float64.

        It is calibrated if the checkpoint has a temperature: that of the logits divided by it.

        Raises:
            InputError: the run has diverged.
        """
        return self.probabilities_of(self.encode(texts))

    def probabilities_of(
        self,
        encoded: Sequence[Sequence[int]],
        *,
        batch_size: int = BATCH_SIZE,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return the probability of each class for each of the encoded texts; see `logits_of`."""
        logits = self.logits_of(encoded, batch_size=batch_size, advance=advance)
        return class_probabilities(logits / self.temperature, many_labels=self.many_labels)

    def logits(self, texts: Sequence[str]) -> Tensor:
        """Return the network's logits, (texts,) for two classes, else (texts, classes).

        Raises:
            InputError: the run has diverged.
        """
        return self.logits_of(self.encode(texts))

    def logits_of(
        self,
        encoded: Sequence[Sequence[int]],
        *,
        batch_size: int = BATCH_SIZE,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return the logits of encoded texts.

        Args:
            encoded: From `encode`.
            batch_size: Texts of about one length that the network reads at a time.
            advance: Called with the number of texts that are done.

        Raises:
            InputError: the run has diverged.
        """
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        parts = []
        for start in range(0, len(order), batch_size):
            batch = [encoded[number] for number in order[start : start + batch_size]]
            parts.append(self._batch_logits(batch))
            advance(len(batch))
        sorted_logits = torch.cat(parts) if parts else torch.zeros(0, *self._shape())
        if not bool(torch.isfinite(sorted_logits).all()):
            raise self.checkpoint.diverged()
        return sorted_logits[torch.tensor(order, dtype=torch.int64).argsort()]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of the tokens that the network reads of each text, at least one a text."""
        return [self._read(ids) for ids in encode_batch(self.tokenizer, texts)]

    def explain(self, texts: Sequence[str], *, class_name: str | None = None) -> list[Explanation]:
        """Return what each word of each text adds to a class's logit.

        A text is explained for its label; where a text may have several, once for each of them, or for the most
        probable class if it has none. The time grows with the square of a text's length: 400 tokens take about three
        seconds of one core with a GRU of 128 units.

        Args:
            texts: The texts.
            class_name: The class to explain instead, for all texts.

        Raises:
            InputError: the run has diverged, there is no such class, or one string is given instead of a list.
        """
        if isinstance(texts, str):
            raise InputError(f"explain takes a list of texts; type explain([{texts[:20]!r}]).")
        if class_name is not None and class_name not in self.classes:
            raise InputError(f"there is no class {class_name}; the classes are {', '.join(self.classes)}.")
        found = []
        for prediction in self.predict(texts):
            names = [class_name] if class_name is not None else prediction.labels or [prediction.label]
            found += [self._explain(prediction, name) for name in names]
        return found

    def _explain(self, prediction: Prediction, name: str) -> Explanation:
        text = prediction.text
        odds = log_odds(self.classes.index(name), many_labels=self.many_labels)

        def target(logits: Tensor) -> Tensor:
            return odds(logits / self.temperature)

        token_ids = torch.tensor(self.encode([text])[0], device=self._device)
        spans = token_spans(self.tokenizer, text)
        read = self._read(spans)
        whole, head = len(read) == len(spans), self.data.truncate == "head"
        places = _words(read)
        found = integrated_gradients(self.network, token_ids, target)
        without = occlusion(self.network, token_ids, places, target)
        return Explanation(
            text=text,
            label=name,
            probability=prediction.probabilities[name],
            logit=found.logit,
            baseline_logit=found.baseline_logit,
            words=tuple(
                Word(read[start].start, read[end - 1].end, sum(found.shares[start:end]), occluded)
                for (start, end), occluded in zip(places, without, strict=True)
            ),
            read=(0 if whole or head else read[0].start, len(text) if whole or not head else read[-1].end),
            steps=found.steps,
        )

    def _read(self, tokens: list[Item]) -> list[Item]:
        """Return the part of a text's tokens that the network reads."""
        longest = self.data.max_length
        return tokens[:longest] if self.data.truncate == "head" else tokens[-longest:]

    def to(self, device: str | torch.device) -> "TrainedModel":
        """Move the network to a device, such as "cuda"; return the model itself."""
        self._device = torch.device(device)
        self.network.to(self._device)
        return self

    def _shape(self) -> tuple[int, ...]:
        logits = self.network.output.out_features
        return () if logits == 1 else (logits,)

    def _batch_logits(self, encoded: Sequence[Sequence[int]]) -> Tensor:
        lengths = torch.tensor([len(ids) for ids in encoded])
        token_ids = torch.zeros(len(encoded), int(lengths.max()), dtype=torch.int64)
        for row, ids in zip(token_ids.numpy(), encoded, strict=True):
            row[: len(ids)] = ids
        with torch.inference_mode():
            logits: Tensor = self.network(token_ids.to(self._device), lengths.to(self._device))
        return logits.float().cpu()

    def labels(self, row: Sequence[float]) -> tuple[str, ...]:
        """Return the labels that the probabilities of a text's classes give it."""
        if self.many_labels:
            return tuple(name for name, share in zip(self.classes, row, strict=True) if share > self.threshold)
        if len(row) == 2:
            return (self.classes[row[1] > self.threshold],)
        return (self.classes[max(range(len(row)), key=row.__getitem__)],)


def _words(spans: Sequence[TokenSpan]) -> list[tuple[int, int]]:
    """Return the tokens of each word, from and to; words that share a character are one."""
    starts = [
        number
        for number, (before, span) in enumerate(zip([None, *spans], spans, strict=False))
        if before is None or (span.word != before.word and span.start >= before.end)
    ]
    return list(zip(starts, [*starts[1:], len(spans)], strict=True))
