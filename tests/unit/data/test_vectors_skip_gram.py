"""Vectors of a store's own words: words of the same texts become similar, and the same seed gives the same vectors."""

from pathlib import Path

import numpy as np
import pytest

from textrnn.base.errors import InputError
from textrnn.commands.vectors import main
from textrnn.config.checks import words_file
from textrnn.data.review_file import REVIEWS, ReviewWriter, Split
from textrnn.data.vectors.arrays import open_array
from textrnn.data.vectors.skip_gram import SkipGram, _pairs, train_vectors


def split(path: Path, reviews: list[list[int]]) -> Split:
    with ReviewWriter(path, REVIEWS) as writer:
        writer.write([0] * len(reviews), [""] * len(reviews), reviews)
    return Split(path)


def test_words_of_the_same_reviews_become_similar(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(0))
    topics = [random.integers(2 + 10 * topic, 12 + 10 * topic, (150, 20)).tolist() for topic in (0, 1)]
    splits = [split(tmp_path / f"{topic}.arrow", reviews) for topic, reviews in enumerate(topics)]
    settings = SkipGram(size=16, sample=1.0, epochs=3, lr=0.05)
    vectors = train_vectors(splits, 22, settings)
    assert vectors.shape == (22, 16)
    assert np.array_equal(vectors, train_vectors(splits, 22, settings))
    words = vectors[2:] / np.linalg.norm(vectors[2:], axis=1, keepdims=True)
    similarity = words @ words.T
    across = similarity[:10, 10:]
    assert min(similarity[:10, :10].mean(), similarity[10:, 10:].mean()) > across.mean() + 0.5
    with pytest.raises(InputError, match="no two words near each other"):
        train_vectors([split(tmp_path / "short.arrow", [[2], [3]])], 22, settings)


def test_pairs_are_of_one_review_and_within_the_window() -> None:
    reviews = [np.array([2, 3, 4, 5]), np.array([6, 7])]
    keep = np.ones(8)
    centers, around = _pairs(reviews, keep, 1, np.random.Generator(np.random.PCG64(0)))
    expected = [(2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (6, 7), (7, 6)]
    assert sorted(zip(centers.tolist(), around.tolist(), strict=True)) == expected


def test_the_command_writes_what_a_run_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [
        "data=synthetic",
        f"data.cache_dir={tmp_path}",
        "data.unlabelled=true",
        "data.synthetic.train_reviews=200",
        "data.synthetic.test_reviews=20",
        "data.synthetic.unlabelled_reviews=60",
    ]
    assert main(["own.npy", "--size", "8", "--epochs", "1", *data]) == 0
    assert "model.embedding.vectors=own.npy model.embedding.size=8" in capsys.readouterr().out
    vectors = open_array(Path("own.npy"), 8, "own.npy")
    assert vectors.rows.shape == (len(vectors.words), 8)
    assert b"film" in vectors.words
    assert np.isfinite(vectors.rows).all()
    for typed, refusal in (
        (["own.npy"], "exists already"),
        (["own.txt"], "written as NAME.npy"),
        (["no/own.npy"], "there is no folder"),
        (["other.npy", "--size", "0"], "must be at least 1"),
        (["other.npy", "data.segment_size=100"], "leave out data.segment_size"),
    ):
        with pytest.raises(InputError, match=refusal):
            main(typed)
    words_file(Path("own.npy")).unlink()
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["own.npy"]
