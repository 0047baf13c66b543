"""Local files that can't be used: each is refused in one sentence that names the key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.review_files import refusal, reviews, write

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.store import open_source


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("label", [None, float("nan")])
def test_a_missing_label_is_refused_with_its_row(tmp_path: Path, ending: str, label: Any) -> None:
    rows = reviews(5)
    if ending == "parquet":  # columns of parquet have one type
        rows = [(text, float(value) if label is not None else value) for text, value in rows]
    rows[3] = (rows[3][0], label)
    message = refusal(write(tmp_path / f"mine.{ending}", rows))
    assert f"row 3 (counted from 0) of mine.{ending} has no label" in message
    assert "data.label_column" in message


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_missing_text_is_refused_with_its_row(tmp_path: Path, ending: str) -> None:
    message = refusal(write(tmp_path / f"mine.{ending}", [*reviews(4), (None, 1)]))
    assert f"row 4 (counted from 0) of mine.{ending} has no text" in message
    assert "data.text_column" in message


def test_an_interleaved_row_is_named_by_its_text(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [*reviews(400), ("so bad", None)])
    with pytest.raises(InputError, match=r"the row of train.parquet that starts 'so bad' has no label"):
        list(open_source(DataConfig(path=str(path))).rows(("train",), interleave=True))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "json"])
def test_missing_columns_are_named_with_their_neighbour(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"mine.{ending}", reviews(10), ("texts", "sentiment"))
    assert "(columns: texts, sentiment); type data.text_column=texts" in refusal(path)
    assert "'label' (columns: texts, sentiment); type data.label_column=" in refusal(path, text_column="texts")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("text, label", "(columns: text, ' label'); type 'data.label_column=\" label\"'"),
        ("text,la;bel", "(columns: text, la;bel); type 'data.label_column=\"la;bel\"'"),
        ("text,it's label", "rename it in the file, or type data.label_column=NAME"),
        ("text;label", "mine.csv: its columns are separated by semicolons"),
        ("text\tlabel", "mine.csv: its columns are separated by tabs"),
    ],
)
def test_a_column_of_another_name_is_told_as_it_can_be_typed(tmp_path: Path, header: str, told: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\nfine, and so on;1\n")
    assert told in refusal(path)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_one_class_only_is_refused(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"mine.{ending}", [(f"review {number}", 1) for number in range(200)])
    assert "only training rows of class 1" in refusal(path)


def test_too_few_rows_for_a_split_are_refused(tmp_path: Path) -> None:
    assert "too few rows (2) to cut the validation split" in refusal(write(tmp_path / "mine.csv", reviews(2)))


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", reviews(200))
    (tmp_path / "validation.csv").write_text("text,label\n")
    with pytest.raises(InputError, match="its validation split has no rows"):
        list(open_source(DataConfig(path=str(tmp_path))).rows(("train", "validation"), interleave=True))


def cut(path: Path) -> None:
    write(path, reviews(1000))
    path.write_bytes(path.read_bytes()[:-400])


def damage(path: Path) -> None:
    write(path, reviews(20_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(range(250)) * 2
    path.write_bytes(content)


BAD_FILES: dict[str, Callable[[Path], object] | bytes] = {
    "zero-bytes.csv": b"",
    "header-only.csv": b"text,label\n",
    "latin-1.csv": "text,label\ncaf\xe9,1\n".encode("latin-1"),
    "latin-1-late.csv": b"text,label\n" + b"fine,1\n" * 50_000 + "caf\xe9,1\n".encode("latin-1"),
    "utf-16.csv": "text,label\nfine,1\n".encode("utf-16"),
    "unquoted-commas.csv": b"text,label\ngood, very good,1\n",
    "unquoted-comma-later.csv": b"text,label\ngood,1\nbad, very bad,0\n",
    "open-quote.csv": b'text,label\n"good,1\nbad,0\n',
    "no-label-field.csv": b"text,label\ngood\n",
    "zero-bytes.jsonl": b"",
    "blank-lines.jsonl": b"\n\n",
    "latin-1.jsonl": '{"text": "caf\xe9", "label": 1}\n'.encode("latin-1"),
    "half-a-line.jsonl": b'{"text": "good", "label": 1}\n{"text": "b',
    "no-objects.jsonl": b"5\n",
    "columns.json": b'{"text": ["a", "b"], "label": [0, 1]}',
    "zero-bytes.parquet": b"",
    "zero-rows.parquet": lambda path: write(path, []),
    "no-parquet.parquet": b"PAR1 is not enough PAR1",
    "cut.parquet": cut,
    "damaged.parquet": damage,
    "unknown.txt": b"good",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content, path = BAD_FILES[name], tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    message = refusal(path)
    assert message.startswith(f"data.path={path}")
    if "latin" in name or "utf-16" in name:
        assert "UTF-8" in message
    assert capfd.readouterr() == ("", "")  # the libraries say nothing of their own


def test_folders_without_usable_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "absent")
    assert "no file ending in" in refusal(tmp_path)
    write(tmp_path / "test.csv", reviews(10))
    assert "only files for test" in refusal(tmp_path)
    write(tmp_path / "train.jsonl", reviews(10))
    assert "mixes formats (test.csv, train.jsonl)" in refusal(tmp_path)
