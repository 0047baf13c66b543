"""Small files of reviews, and helpers that read them as a source."""

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from support import IMDB

from textrnn.base.errors import InputError
from textrnn.config.schema import SPLITS, DataConfig
from textrnn.data.sources import Row
from textrnn.data.store import open_source
from textrnn.data.synthetic import generate_review

Pairs = list[tuple[Any, Any]]


def reviews(count: int, name: str = "review") -> Pairs:
    return [(f'{name} {number}, "quoted"\nand a 2nd line é', number % 2) for number in range(count)]


MARKS = ("alpha", "beta", "gamma")


def marked_films(count: int) -> list[tuple[str, list[str]]]:
    """Texts with any of the marks, or none, and the marks as their labels."""
    drawn = random.Random(0)
    rows = []
    for number in range(count):
        marks = [mark for mark in MARKS if drawn.random() < 0.4]
        words = [*(drawn.choice(("a", "film", "of", "it")) for _ in range(drawn.randint(2, 8))), *marks]
        rows.append((f"{' '.join(drawn.sample(words, len(words)))} {number}", marks))
    return rows


def write(path: Path, rows: Pairs, columns: tuple[str, str] = ("text", "label")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        texts, labels = [text for text, _ in rows], [label for _, label in rows]
        parquet.write_table(pa.table({columns[0]: texts, columns[1]: labels}), path, row_group_size=100)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    else:
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    return path


def read(path: Path, splits: tuple[str, ...] = SPLITS, *, interleave: bool = False, **options: Any) -> list[Row]:
    return list(open_source(DataConfig(path=str(path), **options)).rows(splits, interleave=interleave))


def counts(rows: list[Row]) -> Counter[str]:
    return Counter(row.split for row in rows)


def refusal(path: Path, splits: tuple[str, ...] = SPLITS, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        read(path, splits, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert "data." in message
    return message


def imdb_on_hub(folder: Path) -> Path:
    """Write beginnings of generated reviews in the layout of `stanfordnlp/imdb` on the Hub, sorted by label as there.

    Enough for 50 steps in three epochs, after which the default logs its first row.
    """
    (folder / "plain_text").mkdir()
    for split, count in (("train", 1300), ("test", 100), ("unsupervised", 10)):
        rows = sorted(
            (generate_review(1, "train", n + 1000 * len(split), 0.2) for n in range(count)), key=lambda r: r[1]
        )
        labels = [-1] * count if split == "unsupervised" else [label for _, label in rows]
        table = pa.table(
            {"text": [" ".join(text.split()[:30]) for text, _ in rows], "label": pa.array(labels, pa.int64())}
        )
        parquet.write_table(table, folder / "plain_text" / f"{split}-00000-of-00001.parquet")
    card = ["---", "configs:", "- config_name: plain_text", "  default: true", "  data_files:"]
    for split in ("train", "test", "unsupervised"):
        card += [f"  - split: {split}", f"    path: plain_text/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


def some_reviews(place: Path, **counts: int) -> Path:
    """Write a number of real reviews of each split and of both classes to a folder in `place`, in the Hub's layout."""
    folder = place / "reviews"
    folder.mkdir()
    for split, count in counts.items():
        table = parquet.read_table(IMDB / "plain_text" / f"{split}-00000-of-00001.parquet")
        rows = range(0, table.num_rows, -(-table.num_rows // count))
        parquet.write_table(table.take(pa.array(rows)), folder / f"{split}-00000-of-00001.parquet")
    return folder
