"""The generator: its determinism, the bounds of its reviews, and that word counts do not give the label."""

import re
import subprocess
import sys
from hashlib import sha256
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from textrnn.base.errors import InputError
from textrnn.config.schema import SPLITS
from textrnn.data.synthetic import (
    GENERATOR_VERSION,
    MAX_WORDS,
    MIN_WORDS,
    class_names,
    generate_review,
    generate_reviews,
)
from textrnn.data.synthetic_words import POOLS

GOLDEN = (1, "3e2fc8af42b0e5aee9854f79fa44bf6e8deab27c18f7475bb697af9682d60478")
"""GENERATOR_VERSION and the digest of `FIRST_50`: whoever changes the texts changes both."""

FIRST_50 = """
from hashlib import sha256
from textrnn.data.synthetic import generate_reviews
texts = [f"{label} {text}" for text, label in generate_reviews(0, "train", 0.5, count=50)]
print(sha256("\\n".join(texts).encode()).hexdigest())
"""


def test_first_reviews_are_the_golden_ones() -> None:
    texts = [f"{label} {text}" for text, label in generate_reviews(0, "train", 0.5, count=50)]
    assert (GENERATOR_VERSION, sha256("\n".join(texts).encode()).hexdigest()) == GOLDEN


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_makes_the_same_reviews(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_50], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == GOLDEN[1]


@given(
    seed=st.integers(0, 2**64),
    split=st.sampled_from(SPLITS),
    index=st.integers(0, 2**40),
    difficulty=st.floats(0, 1),
    classes=st.integers(2, 8),
)
@settings(max_examples=500, deadline=None)
def test_length_label_and_form_of_any_review(
    seed: int, split: str, index: int, difficulty: float, classes: int
) -> None:
    text, label = generate_review(seed, split, index, difficulty, classes)
    assert MIN_WORDS <= len(text.split()) <= MAX_WORDS
    assert label in range(classes)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "{" not in text
    assert "%" not in text


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_lengths_span_the_range_at_each_difficulty(difficulty: float) -> None:
    lengths = [len(text.split()) for text, _ in generate_reviews(0, "train", difficulty, count=4000)]
    assert MIN_WORDS <= min(lengths) <= 35
    assert 300 <= max(lengths) <= MAX_WORDS


def test_reviews_grow_longer_with_difficulty() -> None:
    mean = [
        np.mean([len(text.split()) for text, _ in generate_reviews(0, "train", difficulty, count=1000)])
        for difficulty in (0.0, 0.5, 1.0)
    ]
    assert mean[0] < mean[1] - 15 < mean[2] - 60


@given(start=st.integers(0, 2**32), difficulty=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_stream_is_its_reviews_one_by_one(start: int, difficulty: float) -> None:
    stream = list(generate_reviews(3, "test", difficulty, start=start, count=5))
    assert stream == [generate_review(3, "test", start + i, difficulty) for i in range(5)]


def test_the_stream_has_no_end_without_a_count() -> None:
    stream = generate_reviews(0, "train", 0.0)
    assert len(list(islice(stream, 3000))) == 3000
    assert next(stream) == generate_review(0, "train", 3000, 0.0)
    assert list(generate_reviews(0, "train", 0.0, count=0)) == []


def test_labels_are_balanced_whatever_the_index_parity() -> None:
    labels = np.array([label for _, label in generate_reviews(0, "train", 0.0, count=8000)])
    # Three and a half standard deviations of a fair coin, for all reviews and for every second one.
    assert abs(labels.mean() - 0.5) < 3.5 * 0.5 / np.sqrt(8000)
    assert abs(labels[::2].mean() - labels[1::2].mean()) < 3.5 / np.sqrt(8000)


def test_splits_and_seeds_share_no_review() -> None:
    sets = [{text for text, _ in generate_reviews(seed, split, 0.0, count=3000)} for seed in (0, 1) for split in SPLITS]
    assert len(set.union(*sets)) == 3000 * len(sets)


@pytest.mark.slow
@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer])
@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_word_counts_do_not_give_the_label(vectorizer: type[CountVectorizer], difficulty: float) -> None:
    texts, labels = zip(*generate_reviews(0, "train", difficulty, count=4000), strict=True)
    counts = vectorizer().fit_transform(texts)
    baseline = LogisticRegression(max_iter=3000).fit(counts[:3000], labels[:3000])
    assert baseline.score(counts[3000:], labels[3000:]) <= 0.60


@pytest.mark.parametrize("classes", [3, 4, 8])
def test_the_class_is_the_only_aspect_that_the_writer_praises(classes: int) -> None:
    names = class_names(classes)
    assert list(names) == sorted(set(names))
    assert len(names) == classes
    reviews = list(generate_reviews(0, "train", 0.0, count=400, classes=classes))
    assert {label for _, label in reviews} == set(range(classes))
    view = f"(?:(?:really|truly|quite|simply) )?(?:{'|'.join(POOLS['good'])})"
    said = [(re.findall(rf"I think that the (\w+) (?:is|was) {view}\.", text), names[label]) for text, label in reviews]
    assert sum(map(len, (praised for praised, _ in said))) > 20
    assert all(praised in ([], [name]) for praised, name in said)


@pytest.mark.slow
@pytest.mark.parametrize("words", [1, 2])
def test_word_counts_do_not_give_one_of_four_classes(words: int) -> None:
    texts, labels = zip(*generate_reviews(0, "train", 0.5, count=4000, classes=4), strict=True)
    counts = TfidfVectorizer(ngram_range=(1, words), min_df=3).fit_transform(texts)
    baseline = LogisticRegression(max_iter=3000).fit(counts[:3000], labels[:3000])
    assert baseline.score(counts[3000:], labels[3000:]) <= 0.30


@pytest.mark.parametrize("difficulty", [-0.01, 1.01, float("nan"), float("inf"), 5])
def test_difficulty_out_of_range_is_named(difficulty: float) -> None:
    with pytest.raises(InputError, match=r"data\.synthetic\.difficulty"):
        generate_review(0, "train", 0, difficulty)
    with pytest.raises(InputError, match=r"data\.synthetic\.difficulty"):
        generate_reviews(0, "train", difficulty)


def test_unknown_split_and_negative_index_are_errors() -> None:
    with pytest.raises(ValueError, match="split is 'dev'"):
        generate_review(0, "dev", 0, 0.5)
    with pytest.raises(ValueError, match="split is 'dev'"):
        generate_reviews(0, "dev", 0.5)
    with pytest.raises(ValueError, match="review -1"):
        generate_review(0, "train", -1, 0.5)
