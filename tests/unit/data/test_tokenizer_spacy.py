"""spaCy's words: cut as spaCy cuts them, known by the `tokenizers` library, and by that version of spaCy alone."""

import importlib.util
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from textrnn.base.errors import InputError
from textrnn.config.checks import check
from textrnn.config.schema import PAD_ID, Config, DataConfig
from textrnn.data import tokenizer as module
from textrnn.data.store import store_key
from textrnn.data.tokenizer import UNKNOWN_ID, encode_batch, load_tokenizer, train_tokenizer, vocabulary

TEXTS = ["He didn't like it.<br /><br />It's a U.S. film!", "so-so,\tbut I can't...\x85don't"]
VERSION = metadata.version("spacy")
REFERENCE = spacy.blank("en")


def expected_words(text: str) -> list[str]:
    """Markup and control characters out, cut, lower-cased, white space out, one after the other."""
    clean = re.sub(r"<br */?>|[\x00-\x1f\x7f-\x9f]+", " ", text, flags=re.IGNORECASE)
    return [word for word in (token.text.lower() for token in REFERENCE(clean)) if not word.isspace()]


def encoded_words(texts: list[str]) -> list[list[str]]:
    tokenizer = train_tokenizer(texts, "spacy", 100_000)
    known = vocabulary(tokenizer)
    return [[known[i] for i in ids] for ids in encode_batch(tokenizer, texts)]


def test_words_are_those_of_spacys_rules_for_english() -> None:
    assert encoded_words(TEXTS) == [
        ["he", "did", "n't", "like", "it", ".", "it", "'s", "a", "u.s.", "film", "!"],
        ["so", "-", "so", ",", "but", "i", "ca", "n't", "...", "do", "n't"],
    ]


PIECES = (
    "<br />",
    "n't",
    "'s",
    " ",
    "...",
    "-",
    "U.S.",
    ":)",
    "\x1f",
    "\x85",
    "\xa0",
    "\u2003",
    "İ",
    "(",
    "http://a.b/c",
)


@given(st.lists(st.lists(st.one_of(st.sampled_from(PIECES), st.characters(codec="utf-8"))).map("".join), max_size=4))
def test_any_text_is_cut_as_spacy_cuts_it(texts: list[str]) -> None:
    assert encoded_words(texts) == [expected_words(text) or ["<unk>"] for text in texts]


def test_the_vocabulary_is_the_one_that_the_library_would_learn() -> None:
    texts = ["b b b a a a c c d", "é é é z z ab e f g"]  # words that all tokenizers cut alike, with ties
    for size in (3, 5, 7, 100):
        assert vocabulary(train_tokenizer(texts, "spacy", size)) == vocabulary(train_tokenizer(texts, "word", size))


@pytest.mark.parametrize(
    "text", ["a...<pad>...b", "a...<PAD>...<unk>...b", "<pad>", "a <un\N{KELVIN SIGN}>", "..<pad>"]
)
def test_no_text_becomes_a_special_token(text: str) -> None:
    tokenizer = train_tokenizer([text, "a film"], "spacy", 100)
    assert vocabulary(tokenizer)[:2] == ["<pad>", "<unk>"]
    (ids,) = encode_batch(tokenizer, [text])
    assert not {PAD_ID, UNKNOWN_ID} & set(ids)


def test_a_saved_tokenizer_says_who_cuts_and_encodes_as_before() -> None:
    tokenizer = train_tokenizer(TEXTS, "spacy", 300)
    saved = tokenizer.to_str()
    assert f"words of spaCy {VERSION}" in saved
    texts = [*TEXTS, "unheard of: it isn't 😀", "", " \n", "<br />"]
    encoded = encode_batch(load_tokenizer(saved), texts)
    assert encoded == encode_batch(tokenizer, texts)
    assert encoded[-3:] == [[UNKNOWN_ID]] * 3


def test_what_spacy_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    blank: Callable[[str], Any] = spacy.blank

    def counted(language: str) -> Any:
        made.append(language)
        return blank(language)

    monkeypatch.setattr(spacy, "blank", counted)
    monkeypatch.setattr(module, "MOST_STRINGS", 0)
    module._english.cache_clear()
    assert list(module.spacy_words(["one don't", "two", "three."])) == [["one", "do", "n't"], ["two"], ["three", "."]]
    assert made == ["en"] * 3


def not_installed(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_another_spacy_or_none_is_refused_before_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = train_tokenizer(TEXTS, "spacy", 300).to_str()
    exact = re.escape(f'type pip install "textrnn[spacy]" spacy=={VERSION}')
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7")
    with pytest.raises(InputError, match=f"9.8.7 is installed here; {exact}$"):
        load_tokenizer(saved)
    monkeypatch.setattr(metadata, "version", not_installed)
    with pytest.raises(InputError, match=f"none is installed here; {exact}$"):
        load_tokenizer(saved)
    with pytest.raises(InputError, match=r'needs spaCy to cut .*none is installed here; .*"textrnn\[spacy\]"$'):
        store_key(DataConfig(tokenizer="spacy"), {})
    load_tokenizer(train_tokenizer(TEXTS, "word", 300).to_str())


def test_a_configuration_without_spacy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(data=DataConfig(source="synthetic", tokenizer="spacy"))
    check(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'data\.tokenizer=spacy.*pip install "textrnn\[spacy\]"'):
        check(config)


def test_only_stores_of_spacys_words_depend_on_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(tokenizer="spacy")
    before = store_key(data, {})
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7")
    assert store_key(data, {}) == before | {"spacy": "en 9.8.7"} != before
    assert "spacy" not in store_key(DataConfig(tokenizer="keras"), {})
