"""Words as spaCy's rule-based English tokenizer cuts them: `spacy.blank("en")`, which needs no model.

spaCy is an optional extra and takes two seconds to import, so that is done when the first text comes.
"""

import functools
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

from textrnn.errors import InputError

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
