"""Columns that are found, asked for, and joined."""

import logging
from pathlib import Path

import pytest
from doubles.review_files import read, refusal, reviews, write

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.columns import find_columns, joined, listed_columns


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["text", "label"], ("text", "label")),
        (["review", "sentiment"], ("review", "sentiment")),
        (["Id", "Content ", "STARS"], ("Content ", "STARS")),
        (["text", "review", "label", "stars"], ("text", "label")),
        (["label", "sentence", "idx"], ("sentence", "label")),
    ],
)
def test_the_only_likely_columns_are_taken(columns: list[str], found: tuple[str, str]) -> None:
    data = find_columns(columns, "it", DataConfig())
    assert (data.text_column, data.label_column) == found


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["review", "comment", "label"], "type data.text_column=review or data.text_column=comment"),
        (["text", "sentiment", "stars"], "type data.label_column=sentiment or data.label_column=stars"),
        (["v1", "v2"], "it has no column 'text' (columns: v1, v2); type data.text_column=NAME"),
        ([f"column {number}" for number in range(99)], "column 11 and 87 more)"),
    ],
)
def test_other_columns_are_asked_for(columns: list[str], told: str) -> None:
    with pytest.raises(InputError) as refused:
        find_columns(columns, "it", DataConfig())
    assert told in str(refused.value)


def test_typed_columns_are_never_replaced() -> None:
    with pytest.raises(InputError, match="no column 'body'"):
        find_columns(["review", "label"], "it", DataConfig(text_column="body"))
    with pytest.raises(InputError, match="no column 'body'"):
        find_columns(["title", "text", "label"], "it", DataConfig(text_column=["title", "body"]))


def test_found_columns_are_told_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "textrnn"):
        for ending in ("csv", "jsonl", "parquet"):
            rows = read(write(tmp_path / f"{ending}.{ending}", reviews(100), ("review", "sentiment")))
            assert [(row.text, row.label) for row in rows] == reviews(100)
    assert caplog.messages == ["columns: review, sentiment"] * 3


def test_several_columns_are_one_text(tmp_path: Path) -> None:
    assert joined(["A title", "A body"]) == "A title\n\nA body"
    assert joined([None, "A body"]) == joined(["", "A body"]) == "A body"
    assert joined([None, None]) is joined([None]) is None
    assert joined(["A title", 5]) == 5  # which is refused
    assert joined(["", ""]) == joined([""]) == ""
    path = tmp_path / "mine.csv"
    path.write_text("title,body,label\n" + "".join(f"T {n},B {n},{n % 2}\n" for n in range(60)))
    assert read(path, text_column=["title", "body"])[3].text == "T 3\n\nB 3"
    assert "no column 'bdy' (columns: title, body, label); type data.text_column=body" in refusal(
        path, text_column=["title", "bdy"]
    )


def test_a_file_without_a_header_is_refused_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("".join(f'"A review that goes on, and on. {"More words. " * 99}",{n % 2}\n' for n in range(9)))
    message = refusal(path)
    assert "mine.csv seems to have no header: its first line starts 'A review that goes on, and on" in message
    assert len(message) < 250 + len(str(path))
    assert listed_columns(["x" * 99]) == "x" * 40 + "..."
