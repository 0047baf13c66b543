"""The embedding's table from pretrained vectors, and their coverage of the text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textrnn.base.errors import InputError
from textrnn.config.schema import PAD_ID, UNK_ID
from textrnn.data.vectors.arrays import WordVectors

VOCABULARY_COVERAGE, TEXT_COVERAGE = "vectors/vocabulary_coverage", "vectors/text_coverage"


@dataclass(frozen=True, slots=True)
class VectorTable:
    """Initial values of the embedding."""

    values: Tensor
    """(vocabulary, size) float32."""
    has_vector: npt.NDArray[np.bool_]
    """(vocabulary,), whether the token's vector is from the source."""

    def coverage(self, token_counts: npt.NDArray[np.int64]) -> dict[str, float]:
        """Return the shares with a vector: of the vocabulary's words, and of all tokens of the training reviews.

        `<pad>` and `<unk>` are not words; tokens of the text that are `<unk>` count as having no vector.

        Args:
            token_counts: (vocabulary,) occurrences of each token in the training reviews.

        """
        words = len(self.has_vector) - UNK_ID - 1
        text = int(token_counts.sum())
        return {
            VOCABULARY_COVERAGE: int(self.has_vector.sum()) / words,
            TEXT_COVERAGE: int(token_counts[self.has_vector].sum()) / text,
        }


def vector_table(vectors: WordVectors, vocabulary: Sequence[str], *, seed: int) -> VectorTable:
    """Look up the vocabulary's words.

    Words without a vector, and `<unk>` unless the source has one, are drawn from a normal distribution with the mean
    and standard deviation, component by component, of the vectors that were found. `<pad>` is zero.

    Args:
        vectors: The source.
        vocabulary: Tokens in the order of their ids.
        seed: Of the random vectors.

    Raises:
        InputError: no word has a vector, or one isn't finite.

    """
    wanted = {token.encode(): token_id for token_id, token in enumerate(vocabulary) if token_id != PAD_ID}
    found = [(wanted.pop(word), row) for row, word in enumerate(vectors.words) if word in wanted]
    token_ids, rows = np.array(found, dtype=np.int64).reshape(-1, 2).T
    with np.errstate(over="ignore"):  # too large for float32, so infinite, which is refused
        known = vectors.rows[rows].astype(np.float32)
    has_vector = np.zeros(len(vocabulary), dtype=np.bool_)
    has_vector[token_ids] = True
    has_vector[UNK_ID] = False
    if not has_vector.any():
        raise InputError(
            f"model.embedding.vectors={vectors.name} has no vector for any of the {len(vocabulary)} tokens of the "
            "vocabulary; give a file of words, such as glove.6B.100d.txt, and use data.tokenizer=word."
        )
    if not (finite := np.isfinite(known).all(axis=1)).all():
        raise InputError(
            f"model.embedding.vectors={vectors.name}: row {rows[~finite].min()} (counted from 0) has a value that is "
            "not a finite number."
        )
    mean, spread = known.mean(axis=0, dtype=np.float64), known.std(axis=0, dtype=np.float64)
    values = np.random.default_rng(seed).normal(mean, spread, (len(vocabulary), known.shape[1])).astype(np.float32)
    values[token_ids] = known
    values[PAD_ID] = 0
    return VectorTable(torch.from_numpy(values), has_vector)
