"""Where tokens are in the text as it was given, for each kind of tokenizer."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from textrnn.data.tokenizer import encode_batch, token_spans, train_tokenizer, vocabulary

KINDS = ("word", "keras", "spacy", "bpe")
TEXT = "A fine  film, I don't<br /><br />miss İstanbul!\x85 Naïve 日本 "
TOKENIZERS = {kind: train_tokenizer([TEXT], kind, 300) for kind in KINDS}


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    spans: dict[int, tuple[int, int]] = {}
    for word, start, end in token_spans(tokenizer, text):
        spans[word] = (spans.get(word, (start,))[0], end)
    return [text[start:end] for start, end in spans.values()]


def test_words_and_punctuation_marks() -> None:
    assert words_of(TOKENIZERS["word"], TEXT) == (
        ["A", "fine", "film", ",", "I", "don", "'", "t", "miss", "İstanbul", "!", "Naïve", "日本"]
    )


def test_words_as_keras_cuts_them() -> None:
    found = words_of(TOKENIZERS["keras"], TEXT)
    assert found == ["A", "fine", "film", "I", "don't", "br", "br", "miss", "İstanbul", "\x85", "Naïve", "日本"]


def test_words_as_spacy_cuts_them() -> None:
    assert words_of(TOKENIZERS["spacy"], TEXT) == (
        ["A", "fine", "film", ",", "I", "do", "n't", "miss", "İstanbul", "!", "Naïve", "日本"]
    )


def test_words_of_bpe_are_without_the_space_before_them() -> None:
    found = [word for word in words_of(TOKENIZERS["bpe"], TEXT) if word.strip(" \x85>")]
    assert found == ["A", "fine", "film", ",", "I", "don", "'t", "miss", "İstanbul", "!", "Naïve", "日本"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_a_token_is_one_span(kind: str) -> None:
    for text in ("", "  \n"):
        assert token_spans(TOKENIZERS[kind], text) == [(0, 0, len(text))]
        assert encode_batch(TOKENIZERS[kind], [text]) == [[1]]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("aI .<br/>\n\x85İ日é"), max_size=40))
@example(text="a<BR/>b <unk> <pad> 👩‍👧 ﬁ ß \x1f")
def test_any_text_has_a_span_for_each_token_in_order(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    spans, (ids,) = token_spans(tokenizer, text), encode_batch(tokenizer, [text])
    assert len(spans) == len(ids)
    for before, span in zip([None, *spans], spans, strict=False):
        assert 0 <= span.start <= span.end <= len(text)
        assert before is None or (before.word <= span.word and before.start <= span.start and before.end <= span.end)
    if kind in ("word", "keras"):
        known = vocabulary(tokenizer)
        assert all(known[i] == text[s.start : s.end].lower() for i, s in zip(ids, spans, strict=True) if i > 1)
