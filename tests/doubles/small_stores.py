"""Reviews from memory for stores and loaders, and the contents of a cache folder."""

import random
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.hub import HubUnreachable
from textrnn.data.review_file import REVIEWS, ROWS_PER_BATCH, ReviewWriter, Split
from textrnn.data.sources import Row
from textrnn.data.store import Store


def synthetic(cache: Path, **settings: Any) -> DataConfig:
    reviews = SyntheticConfig(train_reviews=settings.pop("train_reviews", 1500), test_reviews=200)
    return DataConfig(source="synthetic", synthetic=reviews, cache_dir=str(cache), **settings)


class ListSource:
    """Rows from memory, as if the Hub had them."""

    name = "a list"

    def __init__(self, rows: list[Row], revision: str = "1" * 40) -> None:
        self.all_rows = rows
        self.revision: str | None = revision
        self.passes = 0
        self.breaks_after: int | None = None

    def identity(self) -> dict[str, str | int | float | None]:
        if self.revision is None:
            raise HubUnreachable("no answer in 5 s")
        return {"kind": "hub", "repo": "stanfordnlp/imdb", "revision": self.revision}

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        self.passes += 1
        for number, row in enumerate(row for row in self.all_rows if row.split in splits):
            if number == self.breaks_after:
                raise HubUnreachable("the connection broke")
            yield row

    def expected_rows(self, splits: Collection[str]) -> int | None:
        return None


def reviews(count: int = 2500) -> list[Row]:
    generator = random.Random(0)
    words = [f"word{n}" for n in range(300)]
    return [
        Row(
            generator.choice(("train", "train", "validation", "test")),
            " ".join(generator.choices(words, k=n % 30)),
            n % 2,
        )
        for n in range(count)
    ]


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_only_store(cache: Path, store: Store) -> None:
    """Assert that nothing but this store is in the cache."""
    files = ["meta.json", "test.arrow", "tokenizer.json", "train.arrow", "validation.arrow"]
    assert contents(cache / "stores") == [store.fingerprint, *(f"{store.fingerprint}/{name}" for name in files)]


def write_split(path: Path, reviews: int, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    ids = [generator.integers(2, 1000, size=generator.integers(1, 60)).tolist() for _ in range(reviews)]
    labels = generator.integers(0, 2, size=reviews).tolist()
    with ReviewWriter(path, REVIEWS) as writer:
        for start in range(0, reviews, ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            writer.write(labels[part], [f"review {n}" for n in range(reviews)][part], ids[part])
    return Split(path)
