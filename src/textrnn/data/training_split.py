"""The texts that a run trains on, by its objective."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from textrnn.config.schema import UNLABELLED, Config
from textrnn.data.review_file import Split
from textrnn.data.store import Store


def training_split(config: Config, store: Store) -> Split:
    """Return the texts that a run trains on."""
    if config.objective == "classification":
        return store.split("train")
    names = pretraining_splits(store)
    return JoinedSplit([store.split(name) for name in names]) if len(names) > 1 else store.split(names[0])


def pretraining_splits(store: Store) -> tuple[str, ...]:
    """Return the names of the splits whose texts a language model trains on."""
    return ("train", UNLABELLED) if store.has_unlabelled else ("train",)


class JoinedSplit(Split):
    """Several splits as one, in their order; see `Split`, whose checksum is of a file and missing here."""

    def __init__(self, parts: Sequence[Split]) -> None:
        self._parts = parts
        self._starts = [0, *itertools.accumulate(map(len, parts[:-1]))]
        self.lengths = np.concatenate([part.lengths for part in parts])
        self.labels = np.concatenate([part.labels for part in parts])

    def token_ids(self, index: int) -> npt.NDArray[np.int32]:
        """Return the token ids of a whole review, (length,) int32."""
        part, row = self._place(index)
        return part.token_ids(row)

    def token_counts(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """Return how often each token occurs in the whole reviews, (vocab_size,)."""
        counts: npt.NDArray[np.int64] = np.sum([part.token_counts(vocab_size) for part in self._parts], axis=0)
        return counts

    def text(self, index: int) -> str:
        """Return the original text of a review."""
        part, row = self._place(index)
        return part.text(row)

    def _place(self, index: int) -> tuple[Split, int]:
        """Return the part that holds a row, and its row there."""
        number = bisect_right(self._starts, int(index)) - 1
        return self._parts[number], int(index) - self._starts[number]
