"""Splits by names: what a file's or a split's name stands for, and what becomes of a folder's files."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from doubles.review_files import counts, read, refusal, reviews, write

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.split_files import choose_splits, files_by_split
from textrnn.data.split_names import named_splits
from textrnn.data.store import open_source


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "textrnn"):
        yield caplog


def splits_of(folder: Path) -> dict[str, set[str]]:
    _, found = files_by_split([folder], f"data.path={folder}")
    return {split: {file.relative_to(folder).as_posix() for file in files} for split, files in found.items()}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train.csv imdb_train.csv imdb.train.csv 0000.train.csv trainset.csv TrainSet.csv 1-training-data.csv",
        ),
        ("train", "trainsplit2.csv IMDBTrain.csv train-00000-of-00001.parquet traindata.csv TRAIN.CSV partial-train"),
        ("validation", "dev.csv my-val.csv validation_matched imdb.valid.jsonl DevSet.csv"),
        (
            "test",
            "imdb_test.csv test.csv.gz TESTSET.csv eval.csv held-out.csv imdb_heldout.csv HoldOut.csv imdbTest.csv",
        ),
        (None, "testimonials.csv latest.csv valentine.csv trainers.csv devices.csv protest.parquet threshold_out.csv"),
        (None, "reviews.csv unsupervised retrieval.csv 0000.csv"),
    ],
)
def test_a_split_is_a_word_of_a_name(split: str | None, names: str) -> None:
    assert {name: named_splits(name) for name in names.split()} == dict.fromkeys(names.split(), {split} - {None})


@pytest.mark.parametrize(
    "names",
    [
        ("imdb_train.csv", "imdb_test.csv"),
        ("0000.train.csv", "0000.test.csv"),
        ("trainset.csv", "testset.csv"),
        ("train/part.csv", "more/held-out/part.csv"),
        ("reviews.csv", "reviews.test.csv"),
        ("train.parquet/part.csv", "test.parquet/part.csv"),
    ],
)
def test_files_named_as_test_are_the_test_set(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path / names[0], reviews(300))
    write(tmp_path / names[1], reviews(40, "held out"))
    rows = read(tmp_path)
    assert {row.text for row in rows if row.split == "test"} == {text for text, _ in reviews(40, "held out")}
    assert counts(rows)["test"] == 40


def test_links_are_of_the_split_that_they_lead_to(tmp_path: Path) -> None:
    away, folder = tmp_path / "away", tmp_path / "reviews"
    for name in ("test/part.csv", "validation.csv", "all.csv"):
        write(away / name, reviews(3, name))
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.csv").symlink_to(away / "all.csv")
    (folder / "again.csv").symlink_to(folder / "data" / "train.csv")
    (folder / "one.csv").symlink_to(away / "validation.csv")
    (folder / "held").symlink_to(away / "test")
    (folder / "data" / "up").symlink_to(folder)
    (folder / "round.csv").symlink_to(folder / "round.csv")
    assert splits_of(folder) == {
        "train": {"again.csv"},
        "validation": {"one.csv"},
        "test": {"held/part.csv"},
    }
    (folder / "train-2.csv").symlink_to(away / "test" / "part.csv")
    assert "held/part.csv is named after several splits (test, train; its folders" in refusal(folder)
    assert "train-2.csv is named as test data, which is never trained on" in refusal(folder / "train-2.csv")


@pytest.mark.parametrize("name", ["test.xls", "test.tar.gz", "imdb.TEST.xlsx", "test.csv/"])
def test_a_test_file_that_cant_be_read_isnt_replaced(tmp_path: Path, name: str, told: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train.csv", reviews(3))
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("")
    assert f"{name.strip('/')} is named as test data, but" in refusal(tmp_path)
    write(tmp_path / "eval.csv", reviews(3))
    (tmp_path / "train.py").write_text("")
    assert splits_of(tmp_path) == {"train": {"train.csv"}, "test": {"eval.csv"}}
    assert f".json, so not read: {', '.join(sorted([name.strip('/'), 'train.py']))}" in told.text


@pytest.mark.parametrize("name", ["test.csv", "my.Validation.csv", "test/part.csv", "held_out/part.csv"])
def test_data_named_as_test_are_never_trained_on(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, reviews(300))
    assert "data, which is never trained on" in refusal(path)
    if path.parent != tmp_path:
        assert "data, which is never trained on" in refusal(path.parent)
        (tmp_path / "other").symlink_to(path.parent)
        assert "data, which is never trained on" in refusal(tmp_path / "other")


def test_names_that_may_be_of_splits_are_refused(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "imdbtest.csv", reviews(40))
    assert splits_of(tmp_path) == {"train": {"imdbtest.csv"}}  # latest.csv would be too
    assert "named after no split, so read as training reviews: imdbtest.csv" in told.text
    write(tmp_path / "imdbtrain.csv", reviews(120))
    assert "may be named after splits (imdbtest.csv, imdbtrain.csv)" in refusal(tmp_path)
    write(tmp_path / "train_and_test.csv", reviews(3))
    assert "train_and_test.csv is named after several splits (test, train;" in refusal(tmp_path)


def test_a_file_that_is_typed_alone_leaves_others_out_aloud(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    for name in ("train/a.csv", "test/a.csv", "train.csv", "test.csv", "notes.csv"):
        write(tmp_path / name, reviews(3))
    open_source(DataConfig(path=str(tmp_path / "train.csv")))
    assert "named after a split, but beside it, so not read: test, test.csv" in told.text
    told.clear()
    open_source(DataConfig(path=str(tmp_path / "train")))
    assert "named after a split, but beside it, so not read: test, test.csv" in told.text


def test_splits_of_the_hub(told: pytest.LogCaptureFixture) -> None:
    ours = {"train": "train", "validation": "validation", "test": "test"}
    assert choose_splits([*ours, "dev", "train_extra"], "it") == ours
    assert "it: splits that are not read: dev, train_extra" in told.text
    assert choose_splits(["test_sft", "train_sft"], "it") == {"train": "train_sft", "test": "test_sft"}
    with pytest.raises(InputError, match=r"several test splits \(test_a, test_b\)"):
        choose_splits(["train", "test_a", "test_b"], "it")


def test_several_paths_are_one_source(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    for name in ("a/train-1.csv", "a/train-2.csv", "b/test.csv", "c/test/part.csv", "c/test/more.csv"):
        write(tmp_path / name, reviews(100, name))
    pattern = f"{tmp_path}/*/t*.csv"
    assert set(open_source(DataConfig(path=pattern)).identity()) > {
        "train/a/train-1.csv",
        "train/a/train-2.csv",
        "test/b/test.csv",
    }
    files = [str(tmp_path / "a" / "train-1.csv"), str(tmp_path / "b" / "test.csv")]
    rows = list(open_source(DataConfig(path=files)).rows(("train", "validation", "test")))
    assert (len(rows), counts(rows)["test"]) == (200, 100)
    folders = [str(tmp_path / "a"), str(tmp_path / "c")]
    assert set(open_source(DataConfig(path=folders)).identity()) > {"test/c/test/part.csv"}
    with pytest.raises(InputError, match=r"is named as test data, which is never trained on"):
        open_source(DataConfig(path=f"{tmp_path}/c/test/*.csv"))


def test_what_datasets_saved_is_read(tmp_path: Path) -> None:
    table = {"text": [text for text, _ in reviews(100)], "label": [label for _, label in reviews(100)]}
    train = Dataset.from_dict(table, features=Features({"text": Value("string"), "label": ClassLabel(2)}))
    train.select(range(99, -1, -1)).save_to_disk(tmp_path / "one")
    (tmp_path / "one" / "cache-0123.arrow").write_bytes(b"what map() leaves")
    assert [row.text for row in read(tmp_path / "one")] == [text for text, _ in reversed(reviews(100))]
    DatasetDict({"train": train, "test": train.select(range(10))}).save_to_disk(tmp_path / "several")
    rows = read(tmp_path / "several")
    assert (len(rows), counts(rows)["test"]) == (110, 10)
    write(tmp_path / "test.csv", reviews(60))
    held_out = Dataset.from_csv(str(tmp_path / "test.csv"), split="test", cache_dir=str(tmp_path / "cache"))
    held_out.save_to_disk(tmp_path / "saved")
    assert "holds only files for test" in refusal(tmp_path / "saved")


def test_hidden_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", reviews(60))
    (tmp_path / "test.csv").write_text("id,text\n1,held out\n")
    assert "test.csv has no column 'label': its labels are hidden; type data.path=FILE" in refusal(tmp_path)
    assert counts(read(tmp_path / "train.csv"))["test"]
    table = {"text": ["a"] * 9, "label": [-1] * 9}
    hidden = Dataset.from_dict(table, features=Features({"text": Value("string"), "label": ClassLabel(2)}))
    hidden.to_parquet(tmp_path / "parquet" / "test.parquet")
    write(tmp_path / "parquet" / "train.parquet", reviews(60))
    assert "the labels of test.parquet are hidden" in refusal(tmp_path / "parquet")
