"""Reviews that a run is measured on: its own are found by their content, others are read whole or by their split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.review_files import reviews, write

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.measured import Measured, measured_split
from textrnn.data.store import Store, prepare_store
from textrnn.data.tokenizer import load_tokenizer

Measure = Callable[..., Measured]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Measures a run that was trained on `mine.csv`, or on the folder `mine`."""

    def read(path: Path, name: str = "test", *, trained: str = "mine.csv", **columns: Any) -> Measured:
        store = store_of(tmp_path, trained)
        found = measured_split(
            DataConfig(path=str(path), cache_dir=str(tmp_path / "other cache"), **columns),
            name,
            tokenizer=load_tokenizer(store.tokenizer_json),
            classes=store.classes,
            own=store.record()["splits"][name],
        )
        assert list((tmp_path / "other cache").iterdir()) == [], "no store, and no folder is left"
        return found

    write(tmp_path / "mine.csv", reviews(300))
    for split, count in (("train", 200), ("test", 20)):
        write(tmp_path / "mine" / f"{split}.csv", reviews(count, split))
    return read


def store_of(place: Path, trained: str) -> Store:
    return prepare_store(DataConfig(path=str(place / trained), cache_dir=str(place / "cache"), vocab_size=50))


def texts(found: Measured) -> list[str]:
    return [found.split.text(row) for row in range(len(found.split))]


def test_own_reviews_that_moved_are_the_runs(measure: Measure, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").rename(tmp_path / "moved.csv")
    write(tmp_path / "mine.csv", reviews(300))
    for split in ("test", "validation", "train"):
        found = measure(tmp_path / "moved.csv", split)
        assert (found.is_own, found.is_whole) == (True, False)
        own = store_of(tmp_path, "mine.csv").split(split)
        assert texts(found) == [own.text(row) for row in range(len(own))]
        assert found.split.crc32() == own.crc32()
    for path, split in (("mine", "test"), ("mine", "validation"), ("mine/test.csv", "test")):
        assert measure(tmp_path / path, split, trained="mine").is_own


def test_a_file_of_other_reviews_is_measured_whole(measure: Measure, tmp_path: Path) -> None:
    for name in ("other.csv", "test.csv", "train.jsonl"):
        found = measure(write(tmp_path / name, reviews(70, "other")), "validation")
        assert (found.is_own, found.is_whole) == (False, True)
        assert texts(found) == [text for text, _ in reviews(70, "other")]
        assert found.split.labels.tolist() == [0, 1] * 35
    one = measure(write(tmp_path / "one.csv", [("a single review", "bad")]))
    assert (texts(one), one.split.labels.tolist()) == (["a single review"], [0])


def test_of_a_folder_with_splits_that_split_is_measured(measure: Measure, tmp_path: Path) -> None:
    for split, count in (("test", 9), ("validation", 7)):
        write(tmp_path / "other" / f"{split}.csv", reviews(count, split))
    for split, count in (("test", 9), ("validation", 7)):
        found = measure(tmp_path / "other", split)
        assert (len(found.split), found.is_own, found.is_whole) == (count, False, False)
    (tmp_path / "other" / "test.csv").unlink()
    with pytest.raises(InputError, match="holds no test reviews, only validation; type --split validation"):
        measure(tmp_path / "other")


def test_labels_are_the_runs_by_name(measure: Measure, tmp_path: Path) -> None:
    write(tmp_path / "other.csv", [("a", "POS"), ("b", "bad"), ("c", 1)], ("review", "stars"))
    found = measure(tmp_path / "other.csv", label_column="stars")
    assert found.split.labels.tolist() == [1, 0, 1]
    write(tmp_path / "other.csv", [("a", "good"), ("b", "neutral")])
    with pytest.raises(InputError, match=r"row 1 .* of other.csv has the label 'neutral' in column 'label'"):
        measure(tmp_path / "other.csv")
    write(tmp_path / "other.csv", [("a", "good")], ("words", "label"))
    with pytest.raises(InputError, match="has no column 'text'"):
        measure(tmp_path / "other.csv")
    assert measure(tmp_path / "other.csv", text_column="words").split.labels.tolist() == [1]
