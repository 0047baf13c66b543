"""Names that a data set gives its classes: rows have them instead of numbers."""

from pathlib import Path

from datasets import ClassLabel, Features, Value
from doubles.review_files import read, refusal
from pyarrow import Table, parquet

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
