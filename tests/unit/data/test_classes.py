"""Labels as people write them, the classes that they are, and what can't be a class."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from doubles.review_files import read, refusal, reviews, write
from doubles.small_stores import ListSource
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig
from textrnn.data.batches import collate
from textrnn.data.classes import MOST_CLASSES, ClassIds, Label, classes_line, learn_classes, read_label
from textrnn.data.sources import Row
from textrnn.data.store import Store, prepare_store


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        *((1, 1), (True, 1), (False, 0), (1.0, 1), ("1", 1), (" 1.0 ", 1), ("+1", 1), (-1, -1), ("-1", -1)),
        *((3.5, 3.5), ("3.5", 3.5), ("007", "007"), ("1e3", "1e3"), ("5 stars", "5 stars")),
        *((" spam\n", "spam"), ("Spam", "Spam"), ("NA", "NA"), ("none", "none"), ("TRUE", "TRUE")),
        *((None, None), ("", None), ("  ", None), ("nan", None), (float("nan"), None), (float("inf"), None)),
        *(([1], None), ({"a": 1}, None), (b"spam", None)),
    ],
)
def test_a_label_is_a_number_or_a_text(raw: object, label: Label | None) -> None:
    read = read_label(raw)
    assert (read, type(read)) == (label, type(label))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        *(([0, 1], ["negative", "positive"]), (["pos", "neg"], ["negative", "positive"])),
        *((["Good", "BAD"], ["negative", "positive"]), (["TRUE", "FALSE"], ["negative", "positive"])),
        *((["pos", "negative", 0], ["negative", "positive"]), (["positive", "other"], ["other", "positive"])),
        *((["neg", "bad"], ["bad", "neg"]), ([1, -1], ["-1", "1"]), ([2, 1], ["1", "2"])),
        *(([10, 9, 1.5, -3], ["-3", "1.5", "9", "10"]), ([0, 1, 2], ["0", "1", "2"])),
        *((["spam", "ham"], ["ham", "spam"]), (["neutral", "neg", "pos"], ["neg", "neutral", "pos"])),
        (["n/a", 2, 10], ["10", "2", "n/a"]),
    ],
)
def test_classes_are_sorted_and_known_pairs_are_negative_and_positive(labels: list[Label], classes: list[str]) -> None:
    assert list(learn_classes(labels)) == classes
    ids = ClassIds(learn_classes(labels))
    found = [ids.get(label) for label in labels]
    assert set(found) == set(range(len(classes)))
    assert all(ids.name(label) == classes[id_] for label, id_ in zip(labels, found, strict=True) if id_ is not None)


@given(st.permutations([*range(-3, 12), 2.5, "ham", "spam", "US", "x y", "Ähnlich"]), st.data())
def test_ids_dont_depend_on_the_order_of_rows(labels: list[Label], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(labels), min_size=2, unique=True))
    assert learn_classes(some) == learn_classes(sorted(some, key=str)) == learn_classes(dict.fromkeys(some))


def test_a_name_is_met_by_its_very_spelling_then_in_any_case_then_by_its_meaning() -> None:
    ids = ClassIds(["us", "US", "Them"])
    assert [ids.get(label) for label in ("US", "us", "Us", "THEM", "they")] == [1, 0, None, 2, None]
    ids = ClassIds(["positive", "negative"])
    assert [ids.get(label) for label in ("Negative", "pos", 0, 1, "true", 2, "ham")] == [1, 0, 1, 0, 0, None, None]
    assert ClassIds(["ham", "spam"]).get(1) is None


def stored(tmp_path: Path, rows: list[tuple[str, Any]], **settings: Any) -> Store:
    path = write(tmp_path / "mine.jsonl", [(f"{text} {number}", label) for number, (text, label) in enumerate(rows)])
    return prepare_store(DataConfig(path=str(path), cache_dir=str(tmp_path / "cache"), **settings))


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["spam", "ham"], ("ham", "spam")),
        ([5, 3, 1], ("1", "3", "5")),
        ([True, False], ("negative", "positive")),
        ([2.0, 1.0, 1.0], ("1", "2")),
    ],
)
def test_a_store_has_the_classes_and_their_ids(
    tmp_path: Path,
    names: list[Any],
    classes: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "textrnn")
    store = stored(tmp_path, [(f"of {name}:", name) for name in names] * 40)
    assert store.classes == classes == Store(store.path).classes
    assert store.record()["classes"] == list(classes)
    assert caplog.messages.count(f"classes: {', '.join(classes)}") == 1
    ids = ClassIds(classes)
    for split in map(store.split, ("train", "validation", "test")):
        texts = [split.text(row).split(":")[0].removeprefix("of ") for row in range(len(split))]
        assert split.labels.tolist() == [ids.get({"True": 1, "False": 0}.get(t, read_label(t) or 0)) for t in texts]
        assert split.labels.dtype == "int16"


def test_typed_classes_keep_their_order_and_refuse_others(tmp_path: Path) -> None:
    rows = [("a", "spam"), ("b", " Ham "), ("c", "HAM")] * 40
    assert "labels 'spam'" not in (message := refusal(write(tmp_path / "case.jsonl", rows)))
    assert "column 'label' holds the labels 'Ham' and 'HAM', which differ in case alone" in message
    store = stored(tmp_path, rows, classes=["spam", "ham", "eggs"])
    assert store.classes == ("spam", "ham", "eggs")
    assert sorted(set(store.split("train").labels.tolist())) == [0, 1]
    with pytest.raises(InputError, match=r"row 1 .*has the label 'Ham' in column 'label', but data.classes names spam"):
        stored(tmp_path, rows, classes=["spam", "eggs"])
    assert store.meta["key"]["classes"] == ["spam", "ham", "eggs"]


def test_rare_classes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [Row("train", f"review {n}", n % 2) for n in range(20)] + [Row("train", "a typo", "postive")]
    rows += [Row("validation", "v", 0), Row("test", "t", 1)]
    data = DataConfig(cache_dir=str(tmp_path))
    assert prepare_store(data, source=ListSource(rows)).classes == ("0", "1", "postive")
    assert "classes with a single training review: postive" in caplog.text
    data.classes = ["0", "1", "postive", "2"]
    prepare_store(data, source=ListSource(rows))
    assert "classes with no training review: 2" in caplog.text


def test_a_class_that_training_never_saw_is_refused_with_its_row(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(text, ["ham", "spam"][label]) for text, label in reviews(200)])
    write(tmp_path / "test.csv", [("a", "ham"), ("b", "eggs")])
    message = refusal(tmp_path)
    assert "row 1 (counted from 0) of test.csv has the label 'eggs' in column 'label', which no training row has" in (
        message
    )
    assert message.endswith("(classes: ham, spam); correct or remove the row, or type data.classes=[ham,spam,eggs]")
    rows = read(tmp_path, classes=["ham", "spam", "eggs"])
    assert {row.label for row in rows if row.split == "test"} == {"ham", "eggs"}
    write(tmp_path / "train.csv", reviews(200))
    write(tmp_path / "test.csv", [("a", "Neg"), ("b", "positive")])
    store = prepare_store(DataConfig(path=str(tmp_path), cache_dir=str(tmp_path / "cache")))
    assert store.split("test").labels.tolist() == [0, 1]


def test_a_column_of_unique_values_is_no_label_column(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [(f"review {n}", f"id {n}") for n in range(100)])
    assert "holds 77 different values in 77 training rows" in (message := refusal(path))
    assert "so it isn't a column of classes; type data.label_column=NAME" in message
    path = write(tmp_path / "mine.jsonl", [(f"review {n}", n % (MOST_CLASSES + 1)) for n in range(1500)])
    assert "column 'label' holds more than 1,000 different values" in refusal(path)


def test_columns_that_look_like_one_of_classes_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"review {n}", "label": f"id {n}", "stars": n % 5, "half": n // 2} for n in range(100)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert refusal(path).endswith("isn't a column of classes; type data.label_column=stars, which looks like one")
    table = {name: [row[name] for row in rows] for name in rows[0]}
    parquet.write_table(pa.table(table | {"side": [row["stars"] > 2 for row in rows]}), tmp_path / "mine.parquet")
    told = "type data.label_column=stars or data.label_column=side, which look like one"
    assert refusal(tmp_path / "mine.parquet").endswith(told)


SETS: tuple[list[str], ...] = (["spam", "ham"], [], ["ham"], ["spam"])


@pytest.mark.parametrize(
    "cells",
    [
        SETS,
        ("spam, ham", "", "ham", "spam"),
        ("spam;ham", " ", "ham;", "spam"),
        ("spam|ham|spam", "", "ham", "spam"),
        ('["spam", "ham"]', "[]", "['ham']", "[spam]"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_several_labels_a_text(tmp_path: Path, cells: tuple[Any, ...], ending: str) -> None:
    rows = [(f"of {number % 4}: {number}", cells[number % 4]) for number in range(100)]
    path = write(tmp_path / f"mine.{ending}", rows)
    data = DataConfig(path=str(path), cache_dir=str(tmp_path / "cache"), labels_per_text="many")
    store = prepare_store(data)
    assert store.classes == ("ham", "spam")
    for split in map(store.split, ("train", "validation", "test")):
        places = [int(split.text(row).split(":")[0].removeprefix("of ")) for row in range(len(split))]
        assert split.labels.dtype == "uint8"
        assert split.labels.tolist() == [[int(name in SETS[place]) for name in store.classes] for place in places]
    batch = collate(split, np.array([0, 1]), np.ones(2, np.float32), max_length=9, truncate="head", global_batch_size=2)
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == split.labels[:2].tolist()


def test_several_labels_in_columns_of_their_own(tmp_path: Path) -> None:
    rows = [{"text": f"{n} of", "toxic": n % 2, "threat": str(n % 3 == 0), "id": n} for n in range(100)]
    path = tmp_path / "mine.jsonl"
    settings: dict[str, Any] = {"labels_per_text": "many", "label_column": ["toxic", "threat"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = prepare_store(DataConfig(path=str(path), cache_dir=str(tmp_path / "cache"), **settings))
    assert store.classes == ("toxic", "threat")
    split = store.split("train")
    numbers = [int(split.text(row).split()[0]) for row in range(len(split))]
    assert split.labels.tolist() == [[n % 2, int(n % 3 == 0)] for n in numbers]
    for value, told in ((-1, "a hidden label (-1) in column 'threat'"), (0.5, "each of several label columns holds 1")):
        path.write_text("".join(json.dumps(row | {"threat": value}) + "\n" for row in rows))
        assert told in refusal(path, **settings)


def test_several_labels_of_the_hubs_kind(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": Sequence(ClassLabel(names=["joy", "fear", "anger"]))})
    table = {"text": [f"review {n}" for n in range(100)], "label": [[0, 2], [], [1], [2]] * 25}
    Dataset.from_dict(table, features=features).to_parquet(tmp_path / "mine.parquet")
    rows = read(tmp_path / "mine.parquet", labels_per_text="many")
    assert {row.label for row in rows} == {("anger", "joy"), (), ("fear",), ("anger",)}


def test_sets_of_labels_are_refused_for_their_single_ones(tmp_path: Path) -> None:
    rows: list[tuple[str, Any]] = [(f"review {n}", ["a", "b"] if n % 2 else ["a"]) for n in range(100)]
    assert "no label but ['a']" in refusal(write(tmp_path / "mine.jsonl", rows))
    many: dict[str, Any] = {"labels_per_text": "many"}
    path = write(tmp_path / "mine.jsonl", [*rows, ("one more", ["a", None])])
    assert "row 100 (counted from 0) of mine.jsonl has no label" in refusal(path, **many)
    path = write(tmp_path / "mine.jsonl", rows)
    assert "has the label 'b' in column 'label', but data.classes names a, c" in refusal(
        path, **many, classes=["a", "c"]
    )
    path = write(tmp_path / "mine.jsonl", [(text, []) for text, _ in rows])
    assert "has only training rows with the labels ()" in refusal(path, **many)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    rows = [Row(split, "a", "spam") for split in ("train", "validation", "test")]
    with pytest.raises(InputError, match="all training rows are of class spam"):
        prepare_store(DataConfig(cache_dir=str(tmp_path)), source=ListSource(rows))


def test_the_line_of_many_classes_names_the_first_ones() -> None:
    assert classes_line(["ham", "spam"]) == "classes: ham, spam"
    names = [f"c{n:02}" for n in range(77)]
    assert classes_line(names) == f"77 classes: {', '.join(names[:10])} and 67 more"
