"""Names that a data set gives its classes: they decide which label is positive."""

import logging
from pathlib import Path

import pytest
from datasets import ClassLabel, Features, Value
from doubles.review_files import read, refusal
from pyarrow import Table, parquet

TEXTS = [f"review {number}" for number in range(60)]


def named(path: Path, names: list[str]) -> Path:
    """A parquet file as `datasets` writes it, whose labels are 0, 1, 2, ... in turn."""
    schema = Features({"text": Value("string"), "label": ClassLabel(names=names)}).arrow_schema
    labels = [number % len(names) for number in range(len(TEXTS))]
    parquet.write_table(Table.from_pydict({"text": TEXTS, "label": labels}, schema=schema), path)
    return path


@pytest.mark.parametrize(
    ("names", "labels"),
    [(["neg", "pos"], [0, 1]), (["positive", "negative"], [1, 0]), (["Good", "BAD "], [1, 0]), (["1", "0"], [1, 0])],
)
def test_the_names_of_classes_decide(tmp_path: Path, names: list[str], labels: list[int]) -> None:
    rows = read(named(tmp_path / "mine.parquet", names))
    assert [row.label for row in rows] == labels * 30


@pytest.mark.parametrize(
    "names", [["positive", "other"], ["other", "neg"], ["1", "2"], ["a", "b", "c"], ["neg", "bad"], ["only"]]
)
def test_classes_that_arent_certain_are_refused(tmp_path: Path, names: list[str]) -> None:
    path = named(tmp_path / "mine.parquet", names)
    assert f"the classes {', '.join(names)}, which are not negative and positive" in refusal(path)


def test_a_row_of_a_third_class_is_refused_by_its_name(tmp_path: Path) -> None:
    path = named(tmp_path / "mine.parquet", ["neutral", "negative", "positive"])
    assert "row 0 (counted from 0) of mine.parquet has the label 'neutral'" in refusal(path)


def test_other_names_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("textrnn"), "propagate", True)  # whatever a command in this process has set
    path = named(tmp_path / "mine.parquet", ["ham", "spam"])
    with caplog.at_level(logging.INFO, "textrnn"):
        assert [row.label for row in read(path)] == [row.label for row in read(path)] == [0, 1] * 30
    assert caplog.messages == [f"data.path={path}: the class 'ham' is called negative here, and 'spam' positive"]


def test_files_that_are_mixed_name_their_classes_alike(tmp_path: Path) -> None:
    named(tmp_path / "train-1.parquet", ["neg", "pos"])
    named(tmp_path / "train-2.parquet", ["pos", "neg"])
    assert [row.label for row in read(tmp_path)] == [0, 1] * 30 + [1, 0] * 30
    assert "name the classes of 'label' differently" in refusal(tmp_path, ("train",), interleave=True)
