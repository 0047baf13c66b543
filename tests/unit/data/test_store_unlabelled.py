"""The split of unlabelled reviews: where it is read from, what it changes, and what it doesn't."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.review_files import refusal, reviews, write

from textrnn.base.errors import InputError
from textrnn.config.checks import check
from textrnn.config.schema import ALL_SPLITS, SPLITS, Config, DataConfig, SplitsConfig, SyntheticConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.module import ReviewsDataModule
from textrnn.data.store import Store, _request, open_source, prepare_store, store_key


def generated(cache: Path, **options: Any) -> Store:
    synthetic = SyntheticConfig(train_reviews=400, test_reviews=60, unlabelled_reviews=150)
    return prepare_store(DataConfig(source="synthetic", synthetic=synthetic, cache_dir=str(cache), **options))


def test_a_store_with_unlabelled_reviews_has_the_same_others(tmp_path: Path) -> None:
    without, store = generated(tmp_path), generated(tmp_path, unlabelled=True)
    assert not without.has_unlabelled
    assert store.has_unlabelled
    assert set(without.meta) | {"left_out"} == set(store.meta)
    for name in SPLITS:
        assert (store.path / f"{name}.arrow").read_bytes() == (without.path / f"{name}.arrow").read_bytes()
    assert store.tokenizer_json == without.tokenizer_json
    assert store.differing(without.record()) == []
    assert set(store.record()["splits"]) == set(ALL_SPLITS)
    split = store.split("unlabelled")
    assert len(split) == 150 - sum(store.meta["left_out"].values()) > 100
    assert set(split.labels.tolist()) == {-1}


def test_the_vocabulary_may_be_made_from_them_and_never_from_held_out_reviews(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    for name, word in (("train", "common"), ("test", "tested"), ("validation", "validated"), ("unlabelled", "more")):
        write(folder / f"{name}.csv", reviews(30, word))
    data = DataConfig(path=str(folder), cache_dir=str(tmp_path), unlabelled=True)
    store, wider = prepare_store(data), prepare_store(replace(data, vocabulary_from="train_and_unlabelled"))
    words = {"common", "tested", "validated", "more"}
    assert words & {*store.vocabulary} == {"common"}
    assert words & {*wider.vocabulary} == {"common", "more"}
    assert len(store.split("unlabelled")) == 30


def test_batches_of_unlabelled_reviews(tmp_path: Path) -> None:
    store, data = generated(tmp_path, unlabelled=True), DataConfig()
    seen = []
    for batch in ReviewsDataModule(data, store, seed=0).loader_for("unlabelled"):
        assert set(batch["labels"].tolist()) == {-1}
        seen += batch["indices"].tolist()
    rows = list(range(len(store.split("unlabelled"))))
    assert sorted(seen) == rows
    epoch = iter((0, 1))
    loader = BatchLoader(
        store.split("unlabelled"),
        batch_size=16,
        max_length=400,
        truncate="tail",
        shuffle=True,
        epoch=lambda: next(epoch),
    )
    first, second = ([row for batch in loader for row in batch["indices"].tolist()] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second) == rows


@pytest.mark.parametrize("name", ["unsupervised.csv", "unsup/part.csv", "train-unlabelled.csv", "Unlabeled 1.parquet"])
def test_files_of_unlabelled_reviews(tmp_path: Path, name: str) -> None:
    ending = Path(name).suffix
    write(tmp_path / f"train{ending}", reviews(300))
    write(tmp_path / f"test{ending}", reviews(40, "held out"))
    assert "data.unlabelled=true: " in refusal(tmp_path, ALL_SPLITS, unlabelled=True)
    write(tmp_path / name, [(text, -1) for text, _ in reviews(30, "unlabelled")])
    source = open_source(DataConfig(path=str(tmp_path), unlabelled=True))
    rows = list(source.rows(ALL_SPLITS))
    assert rows[-30:] == list(source.rows(("unlabelled",)))
    assert [row.text for row in rows[-30:]] == [text for text, _ in reviews(30, "unlabelled")]
    assert {row.split for row in rows[:-30]} == set(SPLITS)
    assert f"unlabelled/{name}" in source.identity()


def test_a_file_without_a_column_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", reviews(300), ("review", "sentiment"))
    (tmp_path / "unlabelled.csv").write_text("id,review\n1,A fine film\n2,Not for me\n")
    rows = list(open_source(DataConfig(path=str(tmp_path), unlabelled=True)).rows(ALL_SPLITS))
    assert [row.text for row in rows if row.split == "unlabelled"] == ["A fine film", "Not for me"]


def test_files_that_are_named_after_a_held_out_split_are_not_unlabelled(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", reviews(300))
    write(tmp_path / "test-unlabelled.csv", reviews(30))
    assert "holds no unlabelled reviews" in refusal(tmp_path, unlabelled=True)


def test_without_the_key_nothing_of_a_store_changes() -> None:
    data = DataConfig()
    assert set(store_key(data, {})) == {"source", "tokenizer", "vocab_size", "segment_size", "classes", "format"}
    assert set(_request(data)["splits"]) == {"train", "validation", "test"}
    typed = replace(data, unlabelled=True, splits=SplitsConfig(unlabelled="extra"))
    assert _request(typed)["splits"]["unlabelled"] == "extra"
    synthetic = DataConfig(source="synthetic")
    assert "unlabelled_reviews" not in open_source(synthetic).identity()
    assert open_source(replace(synthetic, unlabelled=True)).identity()["unlabelled_reviews"] == 10000


def test_unlabelled_rows_are_counted_in_advance() -> None:
    source = open_source(DataConfig(source="synthetic", unlabelled=True))
    assert source.expected_rows(ALL_SPLITS) == 22000
    assert source.expected_rows(("unlabelled",)) == 10000


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"vocabulary_from": "train_and_unlabelled"}, "type data.unlabelled=true too"),
        ({"splits": SplitsConfig(unlabelled="extra")}, "data.splits.unlabelled=extra reads unlabelled reviews"),
        ({"unlabelled": True, "segment_size": 1000}, "can't be used with data.segment_size"),
    ],
)
def test_keys_that_dont_fit_are_refused_before_reading(options: dict[str, Any], refusal: str) -> None:
    with pytest.raises(InputError, match=refusal):
        check(Config(data=DataConfig(**options)))
