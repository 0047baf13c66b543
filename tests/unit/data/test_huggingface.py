"""The `datasets` client: the names that a data set gives its classes, and what a stream holds."""

import io
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Features, Value
from datasets.utils import file_utils
from doubles.review_files import read, refusal, reviews, write
from pyarrow import Table, parquet
from support import until

from textrnn.config.schema import DataConfig
from textrnn.data.store import open_source

TEXTS = [f"review {number}" for number in range(60)]


def named(path: Path, names: list[str], shift: int = 0) -> Path:
    """A parquet file as `datasets` writes it, whose labels are 0, 1, 2, ... in turn, less `shift`."""
    schema = Features({"text": Value("string"), "label": ClassLabel(names=names)}).arrow_schema
    labels = [number % len(names) - shift for number in range(len(TEXTS))]
    parquet.write_table(Table.from_pydict({"text": TEXTS, "label": labels}, schema=schema), path)
    return path


def test_rows_have_the_names_of_their_classes(tmp_path: Path) -> None:
    rows = read(named(tmp_path / "mine.parquet", ["positive", "BAD ", "1"]))
    assert [row.label for row in rows] == ["positive", "BAD", 1] * 20


def test_hidden_labels_are_refused_with_what_to_type(tmp_path: Path) -> None:
    named(tmp_path / "train.parquet", ["neg", "pos"])
    named(tmp_path / "test.parquet", ["neg", "pos"], shift=1)
    assert "the labels of test.parquet are hidden; type data.path=FILE" in refusal(tmp_path)
    named(tmp_path / "train.parquet", ["neg", "pos"], shift=1)
    assert "row 0 (counted from 0) of train.parquet has a hidden label (-1)" in refusal(tmp_path)
    named(tmp_path / "train.parquet", ["neg", "pos"])
    named(tmp_path / "test.parquet", ["neg", "pos"], shift=-1)
    assert "row 1 (counted from 0) of test.parquet has the class number 2, which the file doesn't name" in refusal(
        tmp_path
    )


def test_files_that_are_mixed_name_their_classes_alike(tmp_path: Path) -> None:
    named(tmp_path / "train-1.parquet", ["neg", "pos"])
    named(tmp_path / "train-2.parquet", ["pos", "neg"])
    assert [row.label for row in read(tmp_path)] == ["neg", "pos"] * 30 + ["pos", "neg"] * 30
    assert "name the classes of 'label' differently" in refusal(tmp_path, ("train",), interleave=True)


def test_threads_of_pyarrow_hold_no_bytes_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they can need the interpreter while it shuts down, and abort the process."""
    made, held = 0, 0

    class Content(bytes):
        def __init__(self, _: bytes) -> None:
            nonlocal made, held
            made, held = made + 1, held + 1

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    class File(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            return Content(super().read(size))

    def opened(path: str, *_: Any, **__: Any) -> File:
        return File(io.FileIO(path))

    monkeypatch.setattr(file_utils, "open", opened, raising=False)  # hides Python's own from the client
    path = write(tmp_path / "train.parquet", reviews(1000))
    rows = open_source(DataConfig(path=str(path))).rows(("train",))
    next(rows)
    assert made
    until(lambda: not held, lambda: f"{held} of {made} reads", deadline=2)  # one may just be copied
