"""A folder per class of text files, as aclImdb and 20 newsgroups are laid out."""

import logging
import os
from pathlib import Path

import pytest
from doubles.review_files import refusal

from textrnn.config.schema import DataConfig
from textrnn.data.local_files import LocalSource


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "textrnn")
    return caplog


def texts(folder: Path, count: int = 30, ending: str = ".txt") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}_{number % 10}{ending}").write_text(f"{folder.name} {number}\n")


def examples(path: Path, held: str) -> list[tuple[object, object]]:
    source = LocalSource(DataConfig(path=str(path)))
    return [pair for part in source._parts(held, False, DataConfig()) for pair in part.examples]


def imdb(root: Path) -> Path:
    """The layout of the archive of the Large Movie Review Dataset."""
    for split in ("train", "test"):
        for name in ("neg", "pos"):
            texts(root / split / name)
            (root / split / f"urls_{name}.txt").write_text("http://...\n")
        (root / split / "labeledBow.feat").write_text("")
    texts(root / "train" / "unsup", 7)
    for name in ("README", "imdb.vocab", "imdbEr.txt"):
        (root / name).write_text("")
    return root


def test_the_archive_of_imdb(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = imdb(tmp_path / "aclImdb")
    for split in ("train", "test"):
        pairs = examples(root, split)
        assert [label for _, label in pairs] == ["neg"] * 30 + ["pos"] * 30
        assert ("pos 3\n", "pos") in pairs
    assert told.messages[0] == f"data.path={root}: train/unsup has no labels, so its 7 texts are not read"
    assert (
        "so not read: README, imdb.vocab, imdbEr.txt, test/labeledBow.feat, test/urls_neg.txt and 4 more" in told.text
    )
    source = LocalSource(DataConfig(path=str(root)))
    assert source.expected_rows(("train", "validation", "test")) == 120
    before = source.identity()
    assert len(before) == 6
    os.utime(root / "test" / "neg" / "3_3.txt", ns=(1, 1))
    assert source.identity() != before
    texts(root / "test" / "unsup", 3)
    told.clear()
    rows = list(LocalSource(DataConfig(path=str(root), unlabelled=True)).rows(("unlabelled",)))
    assert [row.text for row in rows] == [f"unsup {number}\n" for number in range(7)]
    assert told.messages[0] == f"data.path={root}: test/unsup has no labels, so its 3 texts are not read"


def test_one_split_of_the_archive(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = imdb(tmp_path / "aclImdb")
    assert len(examples(root / "train", "train")) == 60
    assert "named after no split, so read as training reviews: neg, pos" in told.text
    assert "named after a split, but beside it, so not read: test" in told.text
    assert "is named as test data, which is never trained on" in refusal(root / "test")
    (tmp_path / "other").symlink_to(root / "test")
    assert "is named as test data, which is never trained on" in refusal(tmp_path / "other")


def test_folders_of_other_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("alt.atheism", "sci.space"):
            texts(tmp_path / f"20news-bydate-{split}" / name, 5, "")
    assert examples(tmp_path, "test")[5] == ("sci.space 0\n", "sci.space")
    texts(tmp_path / "20news-bydate-train" / "sci.med" / "1993", 2)
    assert {("1993 0\n", "sci.med"), ("1993 1\n", "sci.med")} <= set(examples(tmp_path, "train"))


def test_texts_that_name_another_split_are_refused(tmp_path: Path) -> None:
    for name in ("neg", "pos"):
        texts(tmp_path / name)
    (tmp_path / "pos" / "test_1.txt").write_text("held out")
    assert "pos/test_1.txt is named as test data; move it into a folder of that split" in refusal(tmp_path)
    (tmp_path / "pos" / "test_1.txt").unlink()
    texts(tmp_path / "train" / "eval" / "pos")
    assert "named as test and train data" in refusal(tmp_path)


def test_a_text_that_isnt_utf_8_is_named(tmp_path: Path) -> None:
    for name in ("neg", "pos"):
        texts(tmp_path / name)
    (tmp_path / "neg" / "0_0.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert "neg/0_0.txt is not UTF-8 text (after 0 rows: unexpected end of data); type data.encoding=cp1252" in refusal(
        tmp_path
    )
