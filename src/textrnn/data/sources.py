"""Where reviews come from: the Hub, local files or the generator, all as one stream of rows."""

from collections.abc import Collection, Iterator
from typing import Protocol

from textrnn.config import DataConfig
from textrnn.data import synthetic
from textrnn.data.hub import HubSource, HubUnreachable
from textrnn.data.local_files import LocalSource
from textrnn.data.rows import (
    HASHED_SHARE,
    SPLITS,
    Part,
    Row,
    expected_rows,
    split_of,
    split_shares,
    stream_rows,
)

__all__ = ["SPLITS", "HubUnreachable", "Row", "Source", "SyntheticSource", "open_source", "split_of"]


class Source(Protocol):
    """Labelled reviews in the splits train, validation and test."""

    name: str
    """For people: "stanfordnlp/imdb@main", a path, or "synthetic reviews"."""

    def identity(self) -> dict[str, str | int | float | None]:
        """Everything that shapes the rows, fit for JSON; "revision" is the Hub's commit.

        Raises:
            HubUnreachable: the Hub doesn't answer; `error.identity` is all but the revision.
            InputError: the Hub doesn't have it.
        """

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One streamed pass over what `splits` need: training rows first, the test rows last.

        With `interleave`, training rows come from many places at a time, in an order that is always the same, so that
        a file sorted by label doesn't begin with thousands of one class. Read to the end or close it
        (`contextlib.closing`).

        Raises:
            InputError: a file, a column, a text or a label is not as it should be, a wanted split has no rows, or the
                training rows are of one class only.
            HubUnreachable: the connection broke.
        """

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """About how many rows `splits` have, for a progress bar; None if only reading would tell."""


class SyntheticSource:
    """The generator's reviews: `data.synthetic.train_reviews` for train and validation, `test_reviews` for test."""

    name = "synthetic reviews"

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._counts = {"train": data.synthetic.train_reviews, "test": data.synthetic.test_reviews}
        self._shares = split_shares(self._counts)

    def identity(self) -> dict[str, str | int | float | None]:
        """The generator's settings and version."""
        settings = self._data.synthetic
        return {
            "kind": "synthetic",
            "generator_version": synthetic.GENERATOR_VERSION,
            "train_reviews": settings.train_reviews,
            "test_reviews": settings.test_reviews,
            "difficulty": settings.difficulty,
            "seed": settings.seed,
            "hashed_share": HASHED_SHARE,
        }

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """About how many rows `splits` have."""
        return expected_rows(self._shares, splits, self._counts.__getitem__)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:  # noqa: ARG002 - mixed anyway
        """The generated reviews; see `Source.rows`."""
        return stream_rows("data.synthetic", self._shares, self._parts, splits, self._data)

    def _parts(self, held: str) -> Iterator[Part]:
        settings = self._data.synthetic
        reviews = synthetic.generate_reviews(settings.seed, held, settings.difficulty, count=self._counts[held])
        yield Part(f"split {held}", ((text, label) for text, label in reviews))


def open_source(data: DataConfig) -> Source:
    """The source that `data` asks for, after local checks only: nothing is read and nobody is asked.

    Raises:
        InputError: `data.path` is missing, holds no usable files, or mixes formats.
    """
    if data.path is not None:
        return LocalSource(data)
    if data.source == "synthetic":
        return SyntheticSource(data)
    return HubSource(data)
