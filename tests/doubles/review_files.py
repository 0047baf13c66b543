"""Small files of reviews, and reading them as a source."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from support import IMDB

from textrnn.config import DataConfig
from textrnn.data.sources import SPLITS, Row, open_source
from textrnn.errors import InputError

Pairs = list[tuple[Any, Any]]


def reviews(count: int, name: str = "review") -> Pairs:
    return [(f'{name} {number}, "quoted"\nand a 2nd line é', number % 2) for number in range(count)]


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


def some_reviews(place: Path, **counts: int) -> Path:
    """A folder in `place` with so many of the real reviews of each split, both classes of them, in the Hub's layout."""
    folder = place / "reviews"
    folder.mkdir()
    for split, count in counts.items():
        table = parquet.read_table(IMDB / "plain_text" / f"{split}-00000-of-00001.parquet")
        rows = range(0, table.num_rows, -(-table.num_rows // count))
        parquet.write_table(table.take(pa.array(rows)), folder / f"{split}-00000-of-00001.parquet")
    return folder
