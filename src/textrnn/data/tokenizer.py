"""Text to token ids: four kinds of tokenizer, run by the `tokenizers` library (Rust, all cores).

The library also splits texts into words, except for spaCy's words, which it receives joined by a separator. spaCy's
rule-based English tokenizer (`spacy.blank("en")`) needs no model; it is an optional extra and takes two seconds to
import, so it is imported at the first text.
"""

import contextlib
import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from textrnn.base.errors import InputError
from textrnn.base.process import available_cores

MOST_STRINGS = 500_000
"""Maximum number of strings in spaCy's cache, about 200 MB; spaCy never empties it, and a stream may be endless."""

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Characters of Thai and Lao, of the Japanese syllabaries, and of Chinese."""


def spacy_words(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lower-cased words and punctuation marks of each text, without white space."""
    for text in texts:
        english = _english()
        yield [token.lower_ for token in english.tokenizer(text) if not token.is_space]
        if len(english.vocab.strings) > MOST_STRINGS:
            _english.cache_clear()


@functools.cache
def _english() -> Any:
    import spacy

    return spacy.blank("en")


def spacy_version(wanted: str | None = None) -> str:
    """Return the installed version of spaCy, whose rules split words, without importing it.

    Args:
        wanted: The required version, if any.

    Raises:
        InputError: spaCy is not installed, or not in the required version.
    """
    try:
        installed = metadata.version("spacy")
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed == "none" or wanted not in (None, installed):
        needed, exact = (f"spaCy {wanted}", f" spacy=={wanted}") if wanted else ("spaCy", "")
        raise InputError(
            f"data.tokenizer=spacy needs {needed} to cut texts into words, and {installed} is installed here; "
            f'type pip install "textrnn[spacy]"{exact}'
        )
    return installed


PAD, UNKNOWN = "<pad>", "<unk>"
UNKNOWN_ID = 1
_SPECIAL_TOKENS = [PAD, UNKNOWN]

# IMDB's markup, and control characters from wrong encodings.
_CLEAN = normalizers.Replace(Regex(r"<[bB][rR] */?>|[\x00-\x1f\x7f-\x9f]+"), " ")

# All characters except the default `filters` and `split` of Keras' `text_to_word_sequence`.
# https://www.tensorflow.org/api_docs/python/tf/keras/preprocessing/text/text_to_word_sequence
_KERAS_WORD = Regex(r"""[^ \t\n!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~]+""")

# spaCy's input: without control characters, of which `_CLEAN` leaves \x80 to \x9f (in its class they are bytes, and a
# correction would change all stores), and without special tokens, which spaCy leaves whole in "a...<pad>...b".
_CLEAN_FOR_SPACY = normalizers.Sequence(
    [
        normalizers.Replace(Regex(r"<[bB][rR] */?>|\p{Cc}+"), " "),
        normalizers.Replace(Regex(r"(?i)<(?=(?:pad|unk)>)"), " < "),
    ]
)
_BLANK = re.compile(r"<br */?>|[\s\x00-\x1f\x7f-\x9f]+", re.IGNORECASE)
"""What `_CLEAN` makes a space of, and space."""
_SEPARATOR = "\x1f"  # not in any cleaned text
_SPACY = "words of spaCy "

RAYON_THREADS, _PARALLEL = "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"
"""Environment variables of the library: the number of threads that encode a batch, and whether it uses several."""

_OFF = ("", "off", "false", "f", "no", "n", "0")
"""Values of `TOKENIZERS_PARALLELISM` that the library reads as no."""

_MOST_THREADS = 16
"""Making Python lists holds the interpreter's lock for a fifteenth of the time; more threads would wait for it."""


def lack_spaces(texts: Sequence[str]) -> bool:
    """Return whether texts are largely in a script without spaces between words: Thai, Lao, Japanese or Chinese."""
    return sum(len(_UNSPACED.findall(text)) for text in texts) > 0.2 * sum(map(len, texts))


def train_tokenizer(texts: Iterable[str], kind: str, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary from `texts`; the same texts give the same tokenizer in every process.

    Args:
        texts: The training reviews, read once.
        kind: "word" (lower-cased words and single punctuation marks, the most frequent ones, ties in alphabetical
            order), "keras" (the same of the words that Keras' `Tokenizer` makes: lower-cased, markup and control
            characters left in, cut at spaces, tabs, line feeds and punctuation but the apostrophe, which disappear),
            "spacy" (the same of the words that spaCy's rules for English make, lower-cased) or "bpe" (byte-level
            byte-pair encoding, Sennrich et al. 2016 and Radford et al. 2019).
        vocab_size: Maximum number of tokens, `<pad>` (id 0) and `<unk>` (id 1) included; with "bpe" at least
            `SMALLEST_BPE`.

    Raises:
        InputError: spaCy is not installed.
    """
    if kind == "spacy":
        return _learn_spacy_words(texts, vocab_size)
    trainer: trainers.WordLevelTrainer | trainers.BpeTrainer
    if kind in ("word", "keras"):
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=list(_SPECIAL_TOKENS), show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(_SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    _set_splitting(tokenizer, kind)
    tokenizer.train_from_iterator(texts, trainer)
    # The trainer would also match the special tokens in texts: a review with "<pad>" would be cut short. Only its
    # model is kept, so no text becomes padding.
    trained = Tokenizer(tokenizer.model)
    _set_splitting(trained, kind)
    return trained


def _learn_spacy_words(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Count the vocabulary that the library's trainer would learn.

    The trainer reads texts in its own threads and handles no signal until it is done, which with spaCy takes long.
    """
    version, counts = spacy_version(), Counter[str]()
    for words in spacy_words(map(_CLEAN_FOR_SPACY.normalize_str, texts)):
        counts.update(words)
    most_frequent = sorted(counts, key=lambda word: (-counts[word], word))
    known = [*_SPECIAL_TOKENS, *most_frequent][:vocab_size]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token=UNKNOWN))
    # From this comment `load_tokenizer` knows that spaCy must split the texts.
    joint = Regex(rf"(?#{_SPACY}{version}){_SEPARATOR}")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(joint, "removed")
    return tokenizer


def _spacy_that_cuts(tokenizer: Tokenizer) -> str | None:
    """Return the version of spaCy whose words are in the vocabulary; None for a tokenizer that splits texts itself."""
    found = re.search(rf"\(\?#{_SPACY}(.+?)\)", str(tokenizer.pre_tokenizer))
    return found and found[1]


def _set_splitting(tokenizer: Tokenizer, kind: str) -> None:
    """Set how a text is cleaned and split into words."""
    if kind == "word":
        tokenizer.normalizer = normalizers.Sequence([_CLEAN, normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    elif kind == "keras":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(_KERAS_WORD, "removed", invert=True)
    else:
        # Stripped, so that a review of spaces only has no token, as with words.
        tokenizer.normalizer = normalizers.Sequence([_CLEAN, normalizers.Strip()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, untruncated; a text without a token is the single token `<unk>`."""
    if _spacy_that_cuts(tokenizer) is not None:
        texts = [_SEPARATOR.join(words) for words in spacy_words(map(_CLEAN_FOR_SPACY.normalize_str, texts))]
    # Rust code, which releases the interpreter's lock.
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids or [UNKNOWN_ID] for encoding in encodings]


class TokenSpan(NamedTuple):
    """Where a token is in its text."""

    word: int
    """Number of its word; the pieces of one word have the same."""
    start: int
    """Its first character in the text as it was given."""
    end: int
    """The character after its last one."""


def token_spans(tokenizer: Tokenizer, text: str) -> list[TokenSpan]:
    """Return where the tokens of `encode_batch` are in the text; without a token `<unk>` is the whole text.

    Spans are in the order of the text. Pieces of one character, as byte-level BPE has them, share its span.
    """
    if _spacy_that_cuts(tokenizer) is not None:
        spans = _spacy_spans(text)
    else:
        found = tokenizer.encode(text, add_special_tokens=False)
        spans = [TokenSpan(w, *span) for w, span in zip(found.word_ids, found.offsets, strict=True) if w is not None]
    blank = {place for match in _BLANK.finditer(text) for place in range(*match.span())}
    return [_without_blank(span, blank) for span in spans] or [TokenSpan(0, 0, len(text))]


def _without_blank(span: TokenSpan, blank: set[int]) -> TokenSpan:
    """Leave out the space before a word, which is a part of BPE's tokens; a token of space alone keeps its place."""
    start = next((place for place in range(span.start, span.end) if place not in blank), span.start)
    return span._replace(start=start)


def _spacy_spans(text: str) -> list[TokenSpan]:
    characters = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    characters.normalizer = _CLEAN_FOR_SPACY
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    places = characters.encode(text, add_special_tokens=False).offsets  # of each cleaned character
    words = [token for token in _english().tokenizer(_CLEAN_FOR_SPACY.normalize_str(text)) if not token.is_space]
    return [
        TokenSpan(number, places[token.idx][0], places[token.idx + len(token) - 1][1])
        for number, token in enumerate(words)
    ]


@contextlib.contextmanager
def encoding_threads(tokenizer: Tokenizer) -> Iterator[int]:
    """Yield how many threads should call `encode_batch` at once; inside, each call runs in its caller's thread.

    The library would encode a batch on all cores and leave all but one idle while its ids become Python lists. With one
    batch per thread for both steps no core waits, and the encodings are still in the core's cache. The number follows
    `RAYON_NUM_THREADS` and `TOKENIZERS_PARALLELISM`, as in the library; it is 1 with spaCy.
    """
    wanted, before = os.environ.get(RAYON_THREADS, ""), os.environ.get(_PARALLEL)
    threads = int(wanted) if wanted.isdecimal() and int(wanted) else min(available_cores(), _MOST_THREADS)
    if before is not None and before.lower() in _OFF:
        threads = 1
    os.environ[_PARALLEL] = "false"  # the library reads it at each call
    try:
        yield 1 if _spacy_that_cuts(tokenizer) is not None else threads
    finally:
        del os.environ[_PARALLEL]
        if before is not None:
            os.environ[_PARALLEL] = before


def load_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Load a tokenizer from the string in a store or a checkpoint, which `Tokenizer.to_str()` wrote.

    Raises:
        InputError: it needs a version of spaCy that is not installed here.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    if (version := _spacy_that_cuts(tokenizer)) is not None:
        spacy_version(version)
    return tokenizer


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)
