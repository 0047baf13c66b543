"""Splits by names: what a file's or a split's name stands for, and what becomes of a folder's files."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.review_files import counts, read, refusal, reviews, write

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.split_files import choose_splits, files_by_split, named_splits
from textrnn.data.store import open_source


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    monkeypatch.setattr(logging.getLogger("textrnn"), "propagate", True)  # whatever a command in this process has set
    with caplog.at_level(logging.INFO, "textrnn"):
        yield caplog


def splits_of(folder: Path) -> dict[str, set[str]]:
    found = files_by_split(folder, f"data.path={folder}")
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


@pytest.mark.parametrize("name", ["test.tsv", "test.csv.gz", "imdb.TEST.xlsx", "test.csv/"])
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
