"""Unlabelled reviews that are, or nearly are, validation or test reviews: they are left out of the store.

A review is equal to another if their words are the same, apart from case, punctuation and markup. It is nearly equal
if their sketches share at least half of their numbers, and at least `FEWEST`. A sketch is the smallest `SKETCH` of the
hashes of all runs of `RUN` words (a bottom-k sketch, Broder 1997), so that its shared part estimates the shared part of
the runs; a run that more than `COMMON` held-out reviews have counts as not shared. Only the held-out reviews' sketches
are in memory, about half a kilobyte each.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textrnn.base.console import LOGGER, Progress
from textrnn.base.errors import InputError
from textrnn.config.schema import UNLABELLED
from textrnn.data.review_file import ROWS_PER_BATCH, TEXTS, ReviewWriter, read_texts

LEAVING_OUT = "sketches of runs of 5 words, 16 of 32, at least 8"
"""Name of the rule in a store's fingerprint; a change of the rule must change it."""
RUN, SKETCH, SHARED, FEWEST, COMMON = 5, 32, 0.5, 8, 100

Numbers = npt.NDArray[np.uint64]

_WORDS = re.compile(r"<br */?>|(\w+)")
_FACTOR = 0x9E3779B97F4A7C15
"""An odd number near 2**64 over the golden ratio, which spreads neighboring numbers."""


def leave_out_held_out(draft: Path) -> tuple[int, dict[str, int]]:
    """Rewrite a draft's unlabelled texts without those of held-out reviews.

    Returns:
        The remaining reviews, and how many were left out as `equal_validation`, `near_validation`, `equal_test` and
        `near_test`.
    """
    held_out = {name: HeldOut(draft / f"{name}.texts") for name in ("test", "validation")}
    left_out = Counter({f"{kind}_{name}": 0 for name in held_out for kind in ("equal", "near")})
    reviews = kept = 0
    texts = draft / f"{UNLABELLED}.texts"
    waiting: list[str] = []
    with Progress("compared", None) as progress, ReviewWriter(draft / "kept.texts", TEXTS) as writer:

        def write() -> None:
            writer.write([0] * len(waiting[:ROWS_PER_BATCH]), waiting[:ROWS_PER_BATCH])
            del waiting[:ROWS_PER_BATCH]

        for batch in read_texts(texts):
            rows = batch.column("text").to_pylist()
            kinds = _kinds(rows, held_out)
            left_out.update(kind for kind in kinds if kind is not None)
            reviews, kept = reviews + len(rows), kept + kinds.count(None)
            waiting += [text for text, kind in zip(rows, kinds, strict=True) if kind is None]
            while len(waiting) >= ROWS_PER_BATCH:
                write()
            progress.advance(len(rows))
        if waiting:
            write()
    (draft / "kept.texts").replace(texts)
    if not kept:
        raise InputError(f"data.unlabelled=true: all {reviews:,} unlabelled reviews are held-out ones; give others.")
    if kept < reviews:
        counts = ", ".join(
            f"{left_out[f'equal_{name}']:,} {name} reviews word by word and {left_out[f'near_{name}']:,} nearly"
            for name in held_out
        )
        LOGGER.warning(f"left out {reviews - kept:,} of the {reviews:,} unlabelled reviews, which are {counts}")
    return kept, dict(left_out)


def _kinds(texts: Sequence[str], held_out: dict[str, "HeldOut"]) -> list[str | None]:
    """Return of each text which held-out review it is, such as "equal_test"; None for the others."""
    whole, sketches = sketch(texts)
    kinds: list[str | None] = [None] * len(texts)
    for name, index in held_out.items():
        equal = np.isin(whole, index.whole)
        near = index.nearly_has(sketches)
        for row in np.flatnonzero(equal | near):
            kinds[row] = kinds[row] or f"{'equal' if equal[row] else 'near'}_{name}"
    return kinds


class HeldOut:
    """The held-out reviews of a file of texts, to find them in others.

    Attributes:
        whole: The hashes of the reviews' words.
    """

    def __init__(self, path: Path) -> None:
        made = [sketch(batch.column("text").to_pylist()) for batch in read_texts(path)]
        self.whole = np.concatenate([whole for whole, _ in made])
        sketches = np.concatenate([numbers for _, numbers in made])
        review, place = np.nonzero(sketches)
        numbers = sketches[review, place]
        different, count = np.unique(numbers, return_counts=True)
        rare = np.isin(numbers, different[count <= COMMON])
        numbers, review = numbers[rare], review[rare]
        order = np.argsort(numbers)
        self._numbers, self._reviews = numbers[order], review[order]
        self._sizes = np.count_nonzero(sketches, axis=1)

    def nearly_has(self, sketches: Numbers) -> npt.NDArray[np.bool_]:
        """Return whether each sketch shares `SHARED` of the numbers with a review's, of which the larger counts."""
        row, place = np.nonzero(sketches)
        numbers = sketches[row, place]
        first, last = (np.searchsorted(self._numbers, numbers, side) for side in ("left", "right"))
        found = last - first
        places = np.arange(found.sum()) + np.repeat(first - (np.cumsum(found) - found), found)
        pairs = np.repeat(row, found) * len(self._sizes) + self._reviews[places]
        pair, shared = np.unique(pairs, return_counts=True)
        row, review = np.divmod(pair, len(self._sizes))
        sizes = np.maximum(self._sizes[review], np.count_nonzero(sketches, axis=1)[row])
        near = np.zeros(len(sketches), dtype=np.bool_)
        near[row[shared >= np.maximum(SHARED * sizes, FEWEST)]] = True
        return near


def sketch(texts: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Return (texts,) hashes of all words, and (texts, SKETCH) the smallest hashes of runs of words; 0: none.

    A text of fewer words than `RUN` has no run.
    """
    words = [[_hash(word) for word in _WORDS.findall(text.lower()) if word] for text in texts]
    lengths = np.array([len(row) for row in words])
    text = np.repeat(np.arange(len(texts)), lengths)
    numbers = np.fromiter((number for row in words for number in row), np.uint64, lengths.sum())
    place = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # A hash of all words in their order: each is mixed with its place, and their sum taken modulo 2**64.
    whole = np.zeros(len(texts), dtype=np.uint64)
    np.add.at(whole, text, _mixed(numbers + _mixed(place.astype(np.uint64))))
    runs = np.zeros(max(0, len(numbers) - RUN + 1), dtype=np.uint64)
    for shift in range(RUN):
        runs = _mixed(runs + numbers[shift : shift + len(runs)])
    within = text[: len(runs)] == text[RUN - 1 :][: len(runs)]
    runs, text = runs[within], text[: len(runs)][within]
    order = np.lexsort((runs, text))
    runs, text = runs[order], text[order]
    new = np.ones(len(runs), dtype=np.bool_)  # each different run of a text once
    new[1:] = (runs[1:] != runs[:-1]) | (text[1:] != text[:-1])
    runs, text = runs[new], text[new]
    counts = np.bincount(text, minlength=len(texts))
    rank = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
    smallest = np.zeros((len(texts), SKETCH), dtype=np.uint64)
    chosen = rank < SKETCH
    smallest[text[chosen], rank[chosen]] = runs[chosen]
    return whole, smallest


@functools.lru_cache(maxsize=1 << 18)
def _hash(word: str) -> int:
    """Return 64 bits of a hash that, unlike Python's, is the same in every process."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")


def _mixed(numbers: Numbers) -> Numbers:
    """Return 64-bit numbers mixed by the finalizer of splitmix64 (Steele et al. 2014)."""
    numbers = numbers * np.uint64(_FACTOR)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
