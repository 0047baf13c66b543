"""Cleaning and splitting, the two special tokens, and the same vocabulary in every process."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrnn.config.schema import PAD_ID, SMALLEST_BPE
from textrnn.data.tokenizer import UNKNOWN_ID, encode_batch, load_tokenizer, train_tokenizer, vocabulary

TEXTS = ["A fine, FINE film.<br /><br />Not dull!", "a dull film\x85and a long one", "naïve café"]


def test_words_are_cleaned_lower_cased_and_split() -> None:
    tokenizer = train_tokenizer(TEXTS, "word", 100)
    words = vocabulary(tokenizer)
    assert words[:2] == ["<pad>", "<unk>"]
    (ids,) = encode_batch(tokenizer, ["Fine<BR/>film...\x00A café"])
    assert [words[i] for i in ids] == ["fine", "film", ".", ".", ".", "a", "café"]
    assert "br" not in words


def test_the_most_frequent_words_are_kept_and_the_rest_is_unknown() -> None:
    tokenizer = train_tokenizer(["b b b a a a c c d"], "word", 5)
    assert vocabulary(tokenizer) == ["<pad>", "<unk>", "a", "b", "c"]
    assert encode_batch(tokenizer, ["d a"]) == [[UNKNOWN_ID, 2]]


KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def keras_words(text: str) -> list[str]:
    """The definition of Keras' `text_to_word_sequence`, character by character."""
    words, word = [], ""
    for character in text + " ":
        if character == " " or character in KERAS_FILTERS:
            if word:
                words.append(word)
            word = ""
        else:
            word += character.lower()
    return words


@given(
    st.lists(
        st.text(
            alphabet=st.one_of(
                st.sampled_from(KERAS_FILTERS + " 'aZé\r\x85\xa0"), st.characters(exclude_categories=["Cs", "Cn"])
            )
        )
    )
)
def test_keras_words_are_those_of_its_definition(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, "keras", 100_000)
    known = vocabulary(tokenizer)
    encoded = encode_batch(tokenizer, texts)
    assert [[known[i] for i in ids] for ids in encoded] == [keras_words(text) or ["<unk>"] for text in texts]


def test_keras_words_keep_apostrophes_and_what_is_left_of_markup() -> None:
    tokenizer = train_tokenizer(["<br />It's a so-so film: don't!\tWATCH_it\n(8/10)"], "keras", 100)
    expected = ["br", "it's", "a", "so", "so", "film", "don't", "watch", "it", "8", "10"]
    (ids,) = encode_batch(tokenizer, ["<br />It's a so-so film: don't!\tWATCH_it\n(8/10)"])
    assert [vocabulary(tokenizer)[i] for i in ids] == expected


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_a_text_without_tokens_is_one_unknown_token(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind, 300)
    assert encode_batch(tokenizer, ["", " \n\t", "<br /> \x85"]) == [[UNKNOWN_ID]] * 3


@pytest.mark.parametrize("kind", ["word", "bpe", "keras"])
def test_no_text_becomes_padding(kind: str) -> None:
    tokenizer = train_tokenizer([*TEXTS, "<pad> <unk> pad unk"], kind, 300)
    (ids,) = encode_batch(tokenizer, ["<pad> a film <pad><unk>"])
    assert PAD_ID not in ids
    assert len(ids) >= 5


@pytest.mark.parametrize("kind", ["word", "bpe", "keras"])
def test_a_saved_tokenizer_encodes_as_before(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind, 300)
    again = load_tokenizer(tokenizer.to_str())
    texts = [*TEXTS, "unheard of: 日本 😀"]
    assert encode_batch(again, texts) == encode_batch(tokenizer, texts)


def test_byte_pairs_know_every_text() -> None:
    tokenizer = train_tokenizer(TEXTS, "bpe", 300)
    (ids,) = encode_batch(tokenizer, ["unheard of: 日本 😀"])
    assert UNKNOWN_ID not in ids
    assert tokenizer.decode(ids).strip() != ""
    assert max(ids) < tokenizer.get_vocab_size() <= 300


def test_byte_pairs_start_from_the_bytes() -> None:
    assert train_tokenizer(TEXTS, "bpe", SMALLEST_BPE).get_vocab_size() == SMALLEST_BPE
    assert train_tokenizer(TEXTS, "bpe", SMALLEST_BPE + 1).get_vocab_size() == SMALLEST_BPE + 1


PROGRAM = """
import hashlib, random, sys
from textrnn.data.tokenizer import train_tokenizer
words = [f"w{n}" for n in range(3000)]
generator = random.Random(0)
texts = [" ".join(generator.choices(words, k=50)) for _ in range(300)]  # about 5 of each: ties everywhere
print(hashlib.sha256(train_tokenizer(texts, sys.argv[1], 1000).to_str().encode()).hexdigest())
"""


@pytest.mark.parametrize("kind", ["word", "bpe", "keras"])
def test_ties_are_broken_alike_in_every_process(kind: str) -> None:
    hashes = set()
    for threads in ("1", "1", "3"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, kind],
            env={"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1
