"""The token store: what it holds, and when it is another one."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from doubles.small_stores import ListSource, assert_only_store, contents, reviews, synthetic
from support import IMDB

from textrnn.base.errors import InputError
from textrnn.base.process import available_cores
from textrnn.config.schema import SPLITS, DataConfig, SyntheticConfig
from textrnn.data.review_file import TEXTS, ReviewWriter, Split
from textrnn.data.sources import Row
from textrnn.data.store import cache_dir, fingerprint, open_source, prepare_store, store_key
from textrnn.data.store_writer import closing_rows, encode_file
from textrnn.data.tokenizer import encode_batch, encoding_threads, load_tokenizer, train_tokenizer


@pytest.mark.parametrize("tokenizer", ["word", "bpe", "keras", "spacy"])
def test_a_store_holds_every_review_encoded_as_the_tokenizer_does(tmp_path: Path, tokenizer: str) -> None:
    data = DataConfig(cache_dir=str(tmp_path), tokenizer=tokenizer, vocab_size=320)
    rows = reviews()
    store = prepare_store(data, source=ListSource(rows))
    encoder = load_tokenizer(store.tokenizer_json)
    assert store.vocabulary[:2] == ["<pad>", "<unk>"]
    assert store.vocab_size == len(store.vocabulary) == encoder.get_vocab_size()
    for name in SPLITS:
        split, expected = store.split(name), [row for row in rows if row.split == name]
        assert len(split) == len(expected) == store.meta["splits"][name]["reviews"]
        ids = encode_batch(encoder, [row.text for row in expected])
        assert [split.token_ids(n).tolist() for n in range(len(split))] == ids
        assert split.lengths.tolist() == [len(review) for review in ids]
        assert split.lengths.dtype == np.int32
        assert split.labels.tolist() == [row.label for row in expected]
        assert [split.text(n) for n in range(len(split))] == [row.text for row in expected]
        assert store.meta["splits"][name]["tokens"] == sum(map(len, ids))
    assert_only_store(tmp_path, store)


@pytest.mark.parametrize(("threads", "before"), [("1", None), ("3", "true"), ("many", None), ("3", "false")])
def test_threads_encode_in_the_order_of_the_texts_and_leave_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str, before: str | None
) -> None:
    monkeypatch.setenv("RAYON_NUM_THREADS", threads)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if before is not None:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    texts = [f"review {number} " + "of a film " * (number % 7) for number in range(2130)]
    tokenizer = train_tokenizer(texts, "word", 1000)
    with ReviewWriter(tmp_path / "texts", TEXTS) as writer:
        for part in (slice(0, 1000), slice(1000, 2000), slice(2000, 2130)):
            writer.write([number % 2 for number in range(2130)[part]], texts[part])
    tokens = encode_file(tmp_path / "texts", tmp_path / "reviews", tokenizer, pa.array([1, 0], pa.int16()))
    split, ids = Split(tmp_path / "reviews"), encode_batch(tokenizer, texts)
    assert [split.token_ids(row).tolist() for row in range(2130)] == ids
    assert [split.text(row) for row in range(2130)] == texts
    assert split.labels.tolist() == [1 - number % 2 for number in range(2130)]
    assert tokens == sum(map(len, ids))
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before
    with encoding_threads(tokenizer) as count:
        assert count == {"1": 1, "3": 1 if before == "false" else 3}.get(threads, min(available_cores(), 16))


def test_without_a_home_the_cache_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(InputError, match="set XDG_CACHE_HOME=FOLDER"):
        cache_dir(DataConfig())
    with pytest.raises(InputError, match=r"data\.cache_dir=~nobody-here/x: there is no such home directory"):
        cache_dir(DataConfig(cache_dir="~nobody-here/x"))


def test_token_ids_are_views_on_the_file(tmp_path: Path) -> None:
    split = prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(reviews())).split("train")
    first, again = split.token_ids(7), split.token_ids(7)
    assert np.shares_memory(first, again)
    assert not first.flags.writeable


def test_tokens_are_counted_over_all_record_batches(tmp_path: Path) -> None:
    store = prepare_store(synthetic(tmp_path))
    train = store.split("train")
    assert len(train) > 1000
    ids = np.concatenate([train.token_ids(index) for index in range(len(train))])
    counts = train.token_counts(store.vocab_size)
    assert counts.shape == (store.vocab_size,)
    np.testing.assert_array_equal(counts, np.bincount(ids, minlength=store.vocab_size))


def test_an_existing_store_is_opened_without_what_makes_one(tmp_path: Path) -> None:
    store = prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(reviews()))
    program = f"""
import sys
from pathlib import Path
from textrnn.data.store import Store
Store(Path({str(store.path)!r})).split("train").token_ids(0)
assert not set(sys.modules) & {{"datasets", "pandas", "torch"}}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_second_run_reads_nothing(tmp_path: Path) -> None:
    data, source = DataConfig(cache_dir=str(tmp_path)), ListSource(reviews())
    made = prepare_store(data, source=source)
    opened = prepare_store(data, source=source)
    assert source.passes == 1
    assert opened.meta == made.meta


def test_what_shapes_a_store_and_what_does_not(tmp_path: Path) -> None:
    data = synthetic(tmp_path)

    def name(**changes: Any) -> str:
        changed = dataclasses.replace(data, **changes)
        return fingerprint(store_key(changed, open_source(changed).identity()))

    shaping: list[dict[str, Any]] = [
        {},
        {"tokenizer": "bpe"},
        {"tokenizer": "keras"},
        {"tokenizer": "spacy"},
        {"vocab_size": 500},
        {"segment_size": 100},
        {"synthetic": SyntheticConfig(train_reviews=1500, test_reviews=201)},
        {"synthetic": SyntheticConfig(train_reviews=1500, test_reviews=200, difficulty=0.1)},
    ]
    names = [name(**changes) for changes in shaping]
    assert len(set(names)) == len(shaping)
    for changes in ({"max_length": 3}, {"truncate": "head"}, {"batch_size": 1}, {"cache_dir": "elsewhere"}):
        assert name(**changes) == names[0]


def test_the_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir(DataConfig()) == tmp_path / "cache" / "textrnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir(DataConfig()) == tmp_path / ".cache" / "textrnn"
    assert cache_dir(DataConfig(cache_dir="~/reviews")) == tmp_path / "reviews"


def test_empty_reviews_are_kept_counted_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*reviews(100), Row("train", "", 0), Row("test", " \n\t ", 1)]
    empty = sum(not row.text.strip() for row in rows)
    store = prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(rows))
    train = store.split("train")
    assert train.token_ids(len(train) - 1).tolist() == [1]
    assert train.text(len(train) - 1) == ""
    assert store.meta["empty_reviews"] == empty
    assert f"kept {empty} empty reviews" in caplog.text


def test_texts_without_spaces_between_words_need_another_tokenizer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [Row(row.split, f"这部电影很好看{number}", row.label) for number, row in enumerate(reviews(100))]
    for tokenizer, told in (("bpe", False), ("word", True)):
        prepare_store(DataConfig(cache_dir=str(tmp_path), tokenizer=tokenizer), source=ListSource(rows))
        assert ("type data.tokenizer=bpe" in caplog.text) == told


def test_reviews_of_training_in_other_splits_are_counted_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [Row("test", "twice", 1), Row("test", "twice", 0), Row("test", "Twice", 0), Row("validation", "once", 0)]
    rows += [Row("train", "twice", 1), Row("train", "thrice", 0), Row("train", "thrice", 1)]
    store = prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(rows))
    assert store.meta["repeated_reviews"] == {"validation": 0, "test": 2}
    assert "2 of the 3 test reviews are training reviews too, to the letter" in caplog.text
    assert "validation reviews are" not in caplog.text
    some = prepare_store(DataConfig(cache_dir=str(tmp_path), segment_size=2), source=ListSource(rows))
    assert some.meta["repeated_reviews"] == {}, "of the first segment alone it would be too few"


@pytest.mark.parametrize("missing", SPLITS)
def test_a_split_without_reviews_is_refused(tmp_path: Path, missing: str) -> None:
    source = ListSource([row for row in reviews(100) if row.split != missing])
    with pytest.raises(InputError, match=f"no {missing} review.*data.path"):
        prepare_store(DataConfig(cache_dir=str(tmp_path / "new" / "cache")), source=source)
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: (path / "test.arrow").unlink(), id="missing-file"),
        pytest.param(lambda path: (path / "meta.json").unlink(), id="missing-meta"),
        pytest.param(lambda path: (path / "meta.json").write_text('{"files": {}}'), id="strange-meta"),
        pytest.param(lambda path: (path / "tokenizer.json").write_text("{"), id="cut-tokenizer"),
        pytest.param(lambda path: os.truncate(path / "train.arrow", 5000), id="cut-reviews"),
        pytest.param(lambda path: overwrite(path / "train.arrow", 20_000), id="overwritten-ids"),
        pytest.param(lambda path: shutil.copy(path / "test.arrow", path / "train.arrow"), id="wrong-counts"),
    ],
)
def test_a_damaged_store_is_made_again(tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    data, source = DataConfig(cache_dir=str(tmp_path)), ListSource(reviews())
    whole = prepare_store(data, source=source)
    damage(whole.path)
    store = prepare_store(data, source=source)
    assert "damaged" in caplog.text
    assert source.passes == 2
    assert store.meta["splits"] == whole.meta["splits"]
    assert store.meta["files"] == whole.meta["files"]
    assert_only_store(tmp_path, store)


def overwrite(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)


def test_without_the_hub_the_newest_store_of_the_same_request_stands_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = DataConfig(cache_dir=str(tmp_path))
    source = ListSource(reviews())
    prepare_store(data, source=source)
    source.revision = "2" * 40
    newest = prepare_store(data, source=source)
    prepare_store(dataclasses.replace(data, revision="other"), source=ListSource(reviews(), "3" * 40))
    source.revision = None
    caplog.clear()
    store = prepare_store(data, source=source)
    assert store.fingerprint == newest.fingerprint
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "2" * 40 in caplog.text
    # A commit is itself, whatever branch it was stored from; another branch or tokenizer is not this one.
    pinned = prepare_store(dataclasses.replace(data, revision="1" * 40), source=source)
    assert pinned.meta["key"]["source"]["revision"] == "1" * 40
    others: list[dict[str, Any]] = [
        {"revision": "v2"},
        {"tokenizer": "bpe"},
        {"repo": "someone/else"},
        {"text_column": "review"},
    ]
    for changed in others:
        with pytest.raises(InputError, match=r"data\.path.*data=synthetic"):
            prepare_store(dataclasses.replace(data, **changed), source=source)


def test_meta_says_what_the_store_is(tmp_path: Path) -> None:
    store = prepare_store(synthetic(tmp_path))
    meta = json.loads((store.path / "meta.json").read_text())
    assert meta["fingerprint"] == store.path.name == fingerprint(meta["key"])
    assert meta["request"]["source"] == "synthetic"


def test_real_reviews(tmp_path: Path) -> None:
    if not IMDB.is_dir():
        pytest.skip("no IMDB beside the checkout")
    data = DataConfig(path=str(IMDB), cache_dir=str(tmp_path))
    with closing_rows(open_source(data).rows(("train",), interleave=True)) as stream:
        rows = list(islice(stream, 300))
    store = prepare_store(data, source=ListSource([row._replace(split=SPLITS[n % 3]) for n, row in enumerate(rows)]))
    ids = encode_batch(load_tokenizer(store.tokenizer_json), [row.text for row in rows[::3]])
    assert [store.split("train").token_ids(n).tolist() for n in range(len(ids))] == ids
    words = set(store.vocabulary)
    assert {"the", "film", "."} <= words
    assert not words & {"br", "<", "The"} - {"<"}


FEW = [
    *(Row("train", "a b a", 0), Row("train", "b c", 1), Row("train", "d", 1)),
    *(Row("validation", "v", 0), Row("validation", "w", 1), Row("test", "t", 0)),
]


def test_the_vocabulary_is_of_the_training_reviews_alone_and_as_large_as_asked(tmp_path: Path) -> None:
    store = prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(FEW))
    assert store.vocabulary == ["<pad>", "<unk>", "a", "b", "c", "d"]
    small = prepare_store(DataConfig(cache_dir=str(tmp_path), vocab_size=4), source=ListSource(FEW))
    assert small.vocabulary == ["<pad>", "<unk>", "a", "b"]


def test_validation_that_comes_after_the_first_segment_is_whole(tmp_path: Path) -> None:
    store = prepare_store(DataConfig(cache_dir=str(tmp_path), segment_size=2), source=ListSource(FEW))
    assert {name: len(store.split(name)) for name in SPLITS} == {"train": 2, "validation": 2, "test": 1}
