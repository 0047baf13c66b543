"""Local files and generated reviews as sources: what is read, and how it is split."""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from doubles.review_files import Pairs, counts, read, refusal, reviews, write
from pyarrow import parquet
from support import IMDB

from textrnn.config.schema import SPLITS, DataConfig, SyntheticConfig
from textrnn.data.sources import split_of, split_shares
from textrnn.data.store import open_source


def test_the_hash_is_the_same_everywhere() -> None:
    shares = split_shares(["train"])["train"]
    assert [number for number in range(40) if split_of(f"review {number}", shares) == "validation"] == [23, 24]
    drawn = Counter(split_of(str(number), shares) for number in range(10_000))
    assert 900 < drawn["validation"] < 1100
    assert 900 < drawn["test"] < 1100


def test_a_test_file_doesnt_change_what_validation_is() -> None:
    both, validation = split_shares(["train"]), split_shares(["train", "test"])
    texts = [str(number) for number in range(1000)]
    chosen = [text for text in texts if split_of(text, both["train"]) == "validation"]
    assert chosen == [text for text in texts if split_of(text, validation["train"]) == "validation"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "json"])
def test_a_single_file_is_split_by_hash(tmp_path: Path, ending: str) -> None:
    rows = read(write(tmp_path / f"some [1] * of mine.{ending}", reviews(1000)))
    assert [(row.text, row.label) for row in rows] == reviews(1000)
    assert 60 < counts(rows)["validation"] < 140
    assert 60 < counts(rows)["test"] < 140
    shares = split_shares(["train"])["train"]
    assert all(row.split == split_of(row.text, shares) for row in rows)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"),
        ("Training_set.csv", "train"),
        ("train1.csv", "train"),
        ("test-00000-of-00001.csv", "test"),
        ("testing.csv", "test"),
        ("val 1.csv", "validation"),
        ("valid.csv", "validation"),
        ("validation.1.csv", "validation"),
        ("dev/1.csv", "validation"),
    ],
)
def test_names_of_splits(tmp_path: Path, name: str, split: str) -> None:
    write(tmp_path / "train.csv", reviews(1))
    write(tmp_path / name, reviews(1))
    assert f"{split}/{name}" in open_source(DataConfig(path=str(tmp_path))).identity()


def test_files_are_the_splits_they_are_named_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train-1.csv", reviews(300, "one"))
    write(tmp_path / "deeper" / "TRAIN-2.csv", reviews(300, "two"))
    write(tmp_path / "test.csv", reviews(40, "held out"))
    write(tmp_path / "unsupervised.csv", [("no label", -1)])
    write(tmp_path / ".ipynb_checkpoints" / "train-1.csv", reviews(300, "stale"))
    rows = read(tmp_path)
    assert {row.text for row in rows if row.split == "test"} == {text for text, _ in reviews(40, "held out")}
    assert 30 < counts(rows)["validation"] < 95
    assert len(rows) == 640
    write(tmp_path / "valid.csv", reviews(20, "valid"))
    assert counts(read(tmp_path)) == {"train": 600, "validation": 20, "test": 40}
    caplog.set_level(logging.INFO, "textrnn")
    source = open_source(DataConfig(path=str(tmp_path)))
    assert f"data.path={tmp_path}: not read without data.unlabelled=true: unsupervised.csv" in caplog.text
    for name in ("testimonials.csv", "valentine.csv", "trainers.csv", "devices.csv", "tester/part.csv"):
        write(tmp_path / name, reviews(30, "else"))
    assert open_source(DataConfig(path=str(tmp_path))).identity() == source.identity()
    found = "devices.csv, tester/part.csv, testimonials.csv, trainers.csv, valentine.csv"
    assert f"data.path={tmp_path}: named after no split, so not read: {found}" in caplog.text
    (tmp_path / "test.csv").unlink()
    assert counts(read(tmp_path))["validation"] == 20


def test_folders_and_files_of_other_names(tmp_path: Path) -> None:
    write(tmp_path / "train" / "part-0.jsonl", reviews(200))
    write(tmp_path / "test" / "part-0.jsonl", reviews(10, "held out"))
    assert counts(read(tmp_path))["test"] == 10
    write(tmp_path / "a" / "one.jsonl", reviews(100, "one"))
    write(tmp_path / "a" / "two.jsonl", reviews(100, "two"))
    assert set(counts(read(tmp_path / "a"))) == set(SPLITS)


def test_only_the_files_of_the_wanted_splits_are_read(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", reviews(300))
    (tmp_path / "test.parquet").write_bytes(b"not parquet at all")
    assert set(counts(read(tmp_path, ("train", "validation")))) == {"train", "validation"}
    assert "test.parquet" in refusal(tmp_path, ("test",))


def test_paths_are_relative_to_here_and_to_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.csv", reviews(100))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(Path("mine.csv")) == read(Path("~/mine.csv"))


def test_texts_that_look_like_nothing_are_kept(tmp_path: Path) -> None:
    texts = ["", "   ", "NA", "null", "nan", "5", "\t", *(f"review {number}" for number in range(93))]
    rows: Pairs = [(text, number % 2) for number, text in enumerate(texts)]
    for ending in ("parquet", "csv", "jsonl"):
        assert [row.text for row in read(write(tmp_path / f"mine.{ending}", rows))] == texts


def test_labels_that_lost_their_type_are_accepted(tmp_path: Path) -> None:
    rows = reviews(100)
    expected = [label for _, label in rows]
    variants: list[tuple[str, Callable[[int], Any]]] = [
        *(("csv", float), ("parquet", bool), ("jsonl", float)),
        *(("parquet", str), ("jsonl", str)),
    ]
    for ending, convert in variants:
        path = write(tmp_path / f"mine.{ending}", [(text, convert(label)) for text, label in rows])
        assert [row.label for row in read(path)] == expected


def test_identity_follows_the_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", reviews(100))
    source = open_source(DataConfig(path=str(tmp_path)))
    before = source.identity()
    assert json.loads(json.dumps(before)) == before == open_source(DataConfig(path=str(tmp_path))).identity()
    write(tmp_path / "notes.csv", reviews(1))  # not read beside a train file
    assert open_source(DataConfig(path=str(tmp_path))).identity() == before
    os.utime(train, ns=(1, 1))
    assert source.identity() != before
    assert open_source(DataConfig(path=str(tmp_path), text_column="review")).identity() != source.identity()


def test_expected_rows(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", reviews(300))
    write(tmp_path / "test.parquet", reviews(20))
    source = open_source(DataConfig(path=str(tmp_path)))
    assert source.expected_rows(SPLITS) == 320
    assert source.expected_rows(("validation",)) == 30
    assert open_source(DataConfig(path=str(write(tmp_path / "a.csv", reviews(3))))).expected_rows(SPLITS) is None


@pytest.mark.slow
def test_interleaving_mixes_a_file_that_is_sorted_by_label(tmp_path: Path) -> None:
    rows: Pairs = [(f"review {number}", int(number >= 15_000)) for number in range(30_000)]
    path = tmp_path / "train.parquet"
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    parquet.write_table(pa.table({"text": texts, "label": labels}), path, row_group_size=1000)
    mixed = read(path, ("train", "validation"), interleave=True)
    for start in range(0, len(mixed) - 1000, 1000):
        assert 0.1 < sum(row.label == 1 for row in mixed[start : start + 1000]) / 1000 < 0.9
    assert mixed == read(path, ("train", "validation"), interleave=True)
    assert sorted(mixed) == sorted(read(path, ("train", "validation")))


def test_generated_reviews() -> None:
    settings = SyntheticConfig(train_reviews=400, test_reviews=50)
    source = open_source(DataConfig(source="synthetic", synthetic=settings))
    rows = list(source.rows(SPLITS))
    assert counts(rows)["test"] == 50
    assert len(rows) == 450 == source.expected_rows(SPLITS)
    assert 20 < counts(rows)["validation"] < 70
    assert list(source.rows(("validation",))) == [row for row in rows if row.split == "validation"]
    other = DataConfig(source="synthetic", synthetic=SyntheticConfig(train_reviews=400, test_reviews=50, seed=1))
    assert open_source(other).identity() != source.identity()
    assert {row.label for row in rows} == {"negative", "positive"}
    settings = SyntheticConfig(train_reviews=200, test_reviews=10, classes=3)
    aspects = open_source(DataConfig(source="synthetic", synthetic=settings))
    assert {row.label for row in aspects.rows(SPLITS)} == {"acting", "music", "script"}
    assert aspects.identity() != source.identity()


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "USE_TORCH": "0", **environment}  # torch takes seconds to import
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_generated_reviews_need_none_of_the_heavy_libraries() -> None:
    code = """
import sys
from textrnn.config.schema import DataConfig
from textrnn.data.synthetic import SyntheticSource
next(SyntheticSource(DataConfig()).rows(("train",)))
print(*{"datasets", "huggingface_hub", "torch", "pandas", "pyarrow"} & sys.modules.keys())
"""
    finished = run_python(code)
    assert (finished.returncode, finished.stdout.strip()) == (0, ""), finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "interleave"), [("parquet", False), ("parquet", True), ("csv", False)])
def test_an_error_in_the_middle_of_a_stream_ends_the_process_cleanly(
    tmp_path: Path, ending: str, interleave: bool
) -> None:
    rows: Pairs = [(f"review {number} " + "of some length " * 50, number % 2) for number in range(20_000)]
    rows[1500] = (rows[1500][0], None)
    path = write(tmp_path / f"train.{ending}", rows)
    code = f"""
import sys
from textrnn.config.schema import DataConfig
from textrnn.data.store import open_source
from textrnn.base.errors import InputError
try:
    for row in open_source(DataConfig(path={str(path)!r})).rows(("train",), interleave={interleave}):
        pass
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""
    home = tmp_path / "home"
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: run_python(code, HF_HOME=str(home), PYTHONWARNINGS="default"), range(3)))
    for finished in runs:
        assert finished.returncode == 2, finished.stderr
        assert finished.stderr.count("\n") == 1, finished.stderr
    assert not [found for found in home.rglob("*") if found.is_file()]


@pytest.mark.slow
@pytest.mark.skipif(not IMDB.is_dir(), reason="real reviews are not beside the checkout (shared/imdb)")
def test_imdb() -> None:
    rows = read(IMDB)
    number = Counter((row.split, ["neg", "pos"].index(str(row.label))) for row in rows)
    assert number["test", 0] == number["test", 1] == 12_500
    assert len(rows) == 50_000
    validation = number["validation", 0] + number["validation", 1]
    assert 0.09 < validation / 25_000 < 0.11
    for split in ("train", "validation"):
        assert 0.47 < number[split, 1] / (number[split, 0] + number[split, 1]) < 0.53
    splits_of: dict[str, set[str]] = {}
    for row in rows:
        if row.split != "test":
            splits_of.setdefault(row.text, set()).add(row.split)
    assert len(splits_of) == 25_000 - 96
    assert all(len(splits) == 1 for splits in splits_of.values())
