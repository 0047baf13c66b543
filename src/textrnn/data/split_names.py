"""Which split a name stands for: of a file, of a folder, or of a split on the Hub."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from textrnn.base.errors import InputError

_NAMES = {
    "train": "train|training|trn",
    "validation": "validation|validate|valid|val|vld|dev|development",
    "test": "test|testing|tst|eval|evaluation",
}
_SPLITS = {split: re.compile(rf"({names})(data)?(set|split)?s?") for split, names in _NAMES.items()}
UNLABELLED_NAMES = {"unlabelled", "unlabeled", "unsupervised", "unsup"}
_HELD_OUT = re.compile(r"(?<![^\W\d_])(held|hold)[\W\d_]*out", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL_CASE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_GLUED = re.compile(r"train|test|valid")
"""Parts of words, as in imdbtrain.csv; also of testimonials.csv and latest.csv, so that one alone says nothing."""
_LISTED = 5
"""Files that a line names."""


def named_splits(*names: str) -> set[str]:
    """The splits that names stand for, with a whole word: testimonials.csv is none of test."""
    found: set[str] = set()
    for name in names:
        plain = _HELD_OUT.sub(" test ", name)
        words = {*_WORD.findall(plain.lower()), *(word.lower() for word in _CAMEL_CASE.findall(plain))}
        found |= {split for split, names in _SPLITS.items() if any(map(names.fullmatch, words))}
    return found


def is_unlabelled(*names: str) -> bool:
    """Return whether names stand for training reviews without labels: with a whole word, and no held-out split."""
    words = {word for name in names for word in _WORD.findall(name.lower())}
    return bool(words & UNLABELLED_NAMES) and named_splits(*names) <= {"train"}


def exactly(folder: Path) -> set[str]:
    """The split that is a folder's whole name: a folder that is typed may be called test-of-something."""
    words = _WORD.findall(_HELD_OUT.sub("test", folder.name))
    return named_splits(folder.name) if len(words) == 1 else set()


def refuse_glued_names(names: Iterable[str], origin: str) -> None:
    """Refuse to pool files such as imdbtrain.csv and imdbtest.csv.

    Raises:
        InputError: naming them.
    """
    glued = [name for name in names if _GLUED.search(name.lower())]
    if len({part for name in glued for part in _GLUED.findall(name.lower())}) > 1:
        raise InputError(
            f"{origin} holds files that may be named after splits ({listed(glued)}); write the split's name as a word "
            "of its own, such as imdb-test.csv, or type data.path=FILE for one of them"
        )


def real(path: Path) -> Path:
    """The path that links lead to; unlike `resolve` it doesn't fail where links go in a circle."""
    return Path(os.path.realpath(path))


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
