"""Text to token ids: four kinds of tokenizer, run by the `tokenizers` library (Rust, all cores).

The library also cuts texts into words, except for spaCy's, which it receives joined by a separator. spaCy's rule-based
English tokenizer (`spacy.blank("en")`) needs no model; it is an optional extra and takes two seconds to import, so it
is imported when the first text comes.
"""

import contextlib
import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from textrnn.base.errors import InputError
from textrnn.base.process import available_cores

MOST_STRINGS = 500_000
"""Strings that spaCy may remember, about 200 MB; it forgets none by itself, and a stream of segments has no end."""


def spacy_words(texts: Iterable[str]) -> Iterator[list[str]]:
    """The lower-cased words and punctuation marks of each text; white space is no word."""
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
    """The version that is installed, whose rules decide where words end; found without an import.

    Args:
        wanted: The only version that will do.

    Raises:
        InputError: there is none, or not the wanted one.
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

# IMDB's markup, and the control characters that stand where an encoding went wrong.
_CLEAN = normalizers.Replace(Regex(r"<[bB][rR] */?>|[\x00-\x1f\x7f-\x9f]+"), " ")

# All but `filters` and `split` of Keras' `text_to_word_sequence`, by their defaults.
# https://www.tensorflow.org/api_docs/python/tf/keras/preprocessing/text/text_to_word_sequence
_KERAS_WORD = Regex(r"""[^ \t\n!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~]+""")

# What spaCy is given: no control character, of which `_CLEAN` leaves \x80 to \x9f (in its class they are bytes, and to
# take them out would change all stores), and no special token, which spaCy's rules leave whole in "a...<pad>...b".
_CLEAN_FOR_SPACY = normalizers.Sequence(
    [
        normalizers.Replace(Regex(r"<[bB][rR] */?>|\p{Cc}+"), " "),
        normalizers.Replace(Regex(r"(?i)<(?=(?:pad|unk)>)"), " < "),
    ]
)
_SEPARATOR = "\x1f"  # which a cleaned text doesn't have
_SPACY = "words of spaCy "

RAYON_THREADS, _PARALLEL = "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"
"""The library's environment variables: on how many threads it encodes a batch, and whether on more than one."""

_OFF = ("", "off", "false", "f", "no", "n", "0")
"""What the library takes for no in `TOKENIZERS_PARALLELISM`."""

_MOST_THREADS = 16
"""Making Python lists takes the interpreter's lock for a fifteenth of the time; more threads would wait for it."""


def train_tokenizer(texts: Iterable[str], kind: str, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary from `texts`; the same texts give the same tokenizer in every process.

    Args:
        texts: The training reviews, read once.
        kind: "word" (lower-cased words and single punctuation marks, the most frequent ones, ties in alphabetical
            order), "keras" (the same of the words that Keras' `Tokenizer` makes: lower-cased, markup and control
            characters left in, cut at spaces, tabs, line feeds and punctuation but the apostrophe, which disappear),
            "spacy" (the same of the words that spaCy's rules for English make, lower-cased) or "bpe" (byte-level
            byte-pair encoding, Sennrich et al. 2016 and Radford et al. 2019).
        vocab_size: Tokens at most, `<pad>` (id 0) and `<unk>` (id 1) included; with "bpe" at least `SMALLEST_BPE`.

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
    # The trainer also makes the special tokens match in texts: a review that says "<pad>" would be cut short. Only its
    # model is kept, so that no text becomes padding.
    trained = Tokenizer(tokenizer.model)
    _set_splitting(trained, kind)
    return trained


def _learn_spacy_words(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """The vocabulary that the library's trainer would learn, counted here.

    The trainer asks for texts in its own threads and hears of no signal until it is done, which with spaCy takes long.
    """
    version, counts = spacy_version(), Counter[str]()
    for words in spacy_words(map(_CLEAN_FOR_SPACY.normalize_str, texts)):
        counts.update(words)
    most_frequent = sorted(counts, key=lambda word: (-counts[word], word))
    known = [*_SPECIAL_TOKENS, *most_frequent][:vocab_size]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token=UNKNOWN))
    # The comment tells `load_tokenizer` what has to cut the texts.
    joint = Regex(rf"(?#{_SPACY}{version}){_SEPARATOR}")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(joint, "removed")
    return tokenizer


def _spacy_that_cuts(tokenizer: Tokenizer) -> str | None:
    """The version of spaCy whose words a tokenizer knows; None: it cuts texts itself."""
    found = re.search(rf"\(\?#{_SPACY}(.+?)\)", str(tokenizer.pre_tokenizer))
    return found and found[1]


def _set_splitting(tokenizer: Tokenizer, kind: str) -> None:
    """Set how a text is cleaned and cut before the vocabulary is looked at."""
    if kind == "word":
        tokenizer.normalizer = normalizers.Sequence([_CLEAN, normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    elif kind == "keras":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(_KERAS_WORD, "removed", invert=True)
    else:
        # Stripped, so that a review of nothing but spaces has no token, as with words.
        tokenizer.normalizer = normalizers.Sequence([_CLEAN, normalizers.Strip()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, untruncated and never empty: a text without a token is the single token `<unk>`."""
    if _spacy_that_cuts(tokenizer) is not None:
        texts = [_SEPARATOR.join(words) for words in spacy_words(map(_CLEAN_FOR_SPACY.normalize_str, texts))]
    # Rust, which leaves the interpreter free.
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids or [UNKNOWN_ID] for encoding in encodings]


@contextlib.contextmanager
def encoding_threads(tokenizer: Tokenizer) -> Iterator[int]:
    """How many threads should call `encode_batch` at once; inside, each call stays in the thread that makes it.

    The library would encode a batch on all cores and leave all but one idle while its ids become Python lists. Threads
    that each take both steps with a batch of their own have no such pause, and find what they encoded in their cache.
    `RAYON_NUM_THREADS` and `TOKENIZERS_PARALLELISM` rule, as they do in the library. spaCy works on one.
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
    """The tokenizer that `Tokenizer.to_str()` wrote, as a store's `tokenizer_json` and a checkpoint hold it.

    Raises:
        InputError: it knows the words of a version of spaCy that is not installed here.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    if (version := _spacy_that_cuts(tokenizer)) is not None:
        spacy_version(version)
    return tokenizer


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)
