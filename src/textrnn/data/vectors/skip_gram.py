"""Word vectors of a token store's own texts: skip-gram with negative sampling (Mikolov et al. 2013).

A word's vector learns to tell the words around it from words that are drawn at random. As in word2vec, frequent words
are skipped at random, the window's size is drawn for each word, and negatives are drawn by frequency to the power 0.75.
Unlike there, the pairs of a step share their negatives, so that the scores are one matrix product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textrnn.base.console import LOGGER, Progress
from textrnn.base.errors import InputError
from textrnn.config.schema import UNK_ID
from textrnn.data.review_file import Split

PAIRS_A_STEP = 4096
SHARED_NEGATIVES = 256
REVIEWS_AT_A_TIME = 500

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipGram:
    """Settings of the training."""

    size: int = 100
    """Components of a vector."""
    window: int = 5
    """Maximum distance of the words of a pair."""
    negatives: int = 5
    """Weight of the random words: the number that a pair would have of its own."""
    sample: float = 1e-4
    """Frequency above which words are skipped at random; word2vec's option of this name."""
    epochs: int = 3
    lr: float = 0.01
    seed: int = 0


def train_vectors(splits: Sequence[Split], vocab_size: int, settings: SkipGram) -> npt.NDArray[np.float32]:
    """Return (vocab_size, size) vectors of the tokens of all reviews; the same for the same arguments and threads.

    Padding and `<unk>` are no words: their rows are as they were drawn.

    Raises:
        InputError: no two words of a review are near each other.
    """
    import torch
    from torch.nn.functional import logsigmoid

    counts = sum((split.token_counts(vocab_size) for split in splits), np.zeros(vocab_size, dtype=np.int64))
    counts[: UNK_ID + 1] = 0
    powers = np.cumsum(counts**0.75)
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = (torch.rand(vocab_size, settings.size, generator=generator) - 0.5) / settings.size
    words = torch.nn.Embedding(vocab_size, settings.size, sparse=True, _weight=drawn)
    contexts = torch.nn.Embedding(vocab_size, settings.size, sparse=True, _weight=torch.zeros_like(drawn))
    optimizer = torch.optim.SparseAdam([*words.parameters(), *contexts.parameters()], lr=settings.lr)
    for epoch in range(settings.epochs):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, epoch])))
        losses: list[float] = []
        with Progress(f"epoch {epoch + 1}: learned from", sum(map(len, splits))) as progress:
            for centers, around in _steps(splits, counts, settings, random, progress):
                negatives = np.searchsorted(powers, random.random(SHARED_NEGATIVES) * powers[-1], side="right")
                vectors = words(torch.from_numpy(centers))
                near = logsigmoid((vectors * contexts(torch.from_numpy(around))).sum(1)).mean()
                far = logsigmoid(-vectors @ contexts(torch.from_numpy(negatives)).T).mean()
                loss = -near - settings.negatives * far
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch's
                optimizer.step()  # type: ignore[no-untyped-call]  # torch's
                losses.append(loss.item())
        if not losses:
            raise InputError("data: the reviews hold no two words near each other to learn from; give more reviews")
        LOGGER.info(f"epoch {epoch + 1} of {settings.epochs}: loss {np.mean(losses):.4f}")
    return words.weight.detach().numpy()


def _steps(
    splits: Sequence[Split], counts: Ids, settings: SkipGram, random: np.random.Generator, progress: Progress
) -> Iterator[tuple[Ids, Ids]]:
    """Yield the pairs of an epoch, `PAIRS_A_STEP` at a time, from reviews in random order."""
    keep = np.zeros(len(counts))
    there = counts > 0
    keep[there] = np.sqrt(settings.sample * counts.sum() / counts[there])
    rows = [(number, row) for number, split in enumerate(splits) for row in range(len(split))]
    order = random.permutation(len(rows))
    for start in range(0, len(order), REVIEWS_AT_A_TIME):
        some = [rows[place] for place in order[start : start + REVIEWS_AT_A_TIME]]
        reviews = [splits[number].token_ids(row).astype(np.int64) for number, row in some]
        pairs = _pairs(reviews, keep, settings.window, random)
        shuffled = pairs[:, random.permutation(pairs.shape[1])]
        for first in range(0, shuffled.shape[1], PAIRS_A_STEP):
            centers, around = shuffled[:, first : first + PAIRS_A_STEP]
            yield centers, around
        progress.advance(len(some))


def _pairs(
    reviews: Sequence[Ids], keep: npt.NDArray[np.float64], window: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return (2, pairs) a word and one near it, in both directions and of the same review."""
    ids = np.concatenate(reviews)
    review = np.repeat(np.arange(len(reviews)), [len(ids) for ids in reviews])
    kept = random.random(len(ids)) < keep[ids]
    ids, review = ids[kept], review[kept]
    reach = random.integers(1, window + 1, len(ids))
    pairs = []
    for distance in range(1, window + 1):
        together = review[distance:] == review[:-distance]
        for center, other in ((slice(distance, None), slice(-distance)), (slice(-distance), slice(distance, None))):
            chosen = together & (reach[center] >= distance)
            pairs.append(np.stack([ids[center][chosen], ids[other][chosen]]))
    return np.concatenate(pairs, axis=1)
