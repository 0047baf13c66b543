"""Rows of labelled reviews: the protocol of all sources, the splits, and the rows that are refused."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig

HASHED_SHARE = 0.1
"""Share of the training rows that stands in for a validation or a test split which the source doesn't hold."""

Shares = Mapping[str, float]
"""Splits and the share of the rows that each gets; the shares add up to 1."""

Examples = Generator[tuple[object, object], None, None]
"""Texts and labels as they were read, not looked at yet."""


class Row(NamedTuple):
    """One review."""

    split: str
    text: str
    label: int


class Part(NamedTuple):
    """Rows that are read in one stream."""

    where: str
    """Its name in a message, such as "train.csv"."""
    examples: Examples
    in_order: bool = True
    """Whether the stream keeps the order of the file, so that a row can be named by its number."""


def split_shares(held: Collection[str]) -> dict[str, Shares]:
    """Which splits the rows of each split that a source holds go to: a missing validation or test is cut from train."""
    cut = {split: HASHED_SHARE for split in ("validation", "test") if split not in held}
    whole: dict[str, Shares] = {split: {split: 1.0} for split in ("validation", "test") if split in held}
    return {"train": {**cut, "train": 1 - sum(cut.values())}, **whole}


def split_of(text: str, shares: Shares) -> str:
    """The split that a text belongs to, by its hash alone: equal texts are always in the same split."""
    point = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return split


def expected_rows(
    shares: Mapping[str, Shares], splits: Collection[str], count: Callable[[str], int | None]
) -> int | None:
    """About how many rows `splits` have; `count` tells how many a held split has, or None if only reading would."""
    expected = 0.0
    for held, parts in shares.items():
        wanted = sum(share for split, share in parts.items() if split in splits)
        if wanted:
            rows = count(held)
            if rows is None:
                return None
            expected += rows * wanted
    return round(expected)


def stream_rows(
    origin: str,
    shares: Mapping[str, Shares],
    parts: Callable[[str], Iterable[Part]],
    splits: Collection[str],
    data: DataConfig,
) -> Iterator[Row]:
    """The rows of `splits` in one pass over the held splits that they come from.

    Args:
        origin: Where the rows come from as it is typed, such as "data.path=reviews.csv".
        shares: What `split_shares` made of the splits that the source holds.
        parts: Opens the streams of a held split.
        splits: The wanted splits.
        data: Names the columns, for messages.

    Raises:
        InputError: a text or a label is refused, a wanted split has no rows, or the training rows are of one class.
    """
    for held, destinations in shares.items():
        if not any(split in splits for split in destinations):
            continue
        seen: Counter[tuple[str, int]] = Counter()
        for part in parts(held):
            with contextlib.closing(part.examples):
                for number, (text, label) in enumerate(part.examples):
                    if not isinstance(text, str) or label not in (0, 1):
                        raise InputError(f"{origin}: {_name(part, number, text)} {_refusal(text, label, data)}")
                    row = Row(split_of(text, destinations), text, int(label == 1))
                    seen[row.split, row.label] += 1
                    if row.split in splits:
                        yield row
        whole = origin if len(shares) == 1 else f"{origin}: its {held} split"
        _check_split(origin, whole, [split for split in destinations if split in splits], seen)


def _name(part: Part, number: int, text: object) -> str:
    if part.in_order:
        return f"row {number} (counted from 0) of {part.where}"
    return f"the row of {part.where} that starts {str(text)[:40]!r}"


def _refusal(text: object, label: object, data: DataConfig) -> str:
    if not isinstance(text, str):
        found = "no text" if text is None else f"no text but {text!r:.40}"
        return (
            f"has {found} in column {data.text_column!r}; correct or remove the row, "
            "or type data.text_column=NAME with the column that holds the texts"
        )
    found = "no label" if label is None else f"the label {label!r:.40}"
    return (
        f"has {found} in column {data.label_column!r}, but labels are 0 (negative) and 1 (positive); correct "
        "or remove the row, or type data.label_column=NAME with the column that holds them"
    )


def _check_split(origin: str, whole: str, wanted: Iterable[str], seen: Mapping[tuple[str, int], int]) -> None:
    rows = sum(seen.values())
    if not rows:
        raise InputError(f"{whole} has no rows; give it rows with a text and a label")
    for split in wanted:
        classes = [label for label in (0, 1) if seen.get((split, label))]
        if not classes:
            raise InputError(
                f"{origin} has too few rows ({rows}) to cut the {split} split from them; "
                f"give it more, or put a {split} file beside them in a folder"
            )
        if split == "train" and len(classes) == 1:
            raise InputError(
                f"{origin} has only training rows of class {classes[0]}; give it rows of both classes, 0 and 1"
            )


class Source(Protocol):
    """Labelled reviews in the splits train, validation and test."""

    name: str
    """For people: "stanfordnlp/imdb@main", a path, or "synthetic reviews"."""

    def identity(self) -> dict[str, str | int | float | None]:
        """Everything that shapes the rows, fit for JSON; "revision" is the Hub's commit.

        Raises:
            HubUnreachable: the Hub doesn't answer; `error.identity` is all but the revision.
            InputError: the Hub doesn't have it.
        """

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One streamed pass over what `splits` need: training rows first, the test rows last.

        With `interleave`, training rows come from many places at a time, in an order that is always the same, so that
        a file sorted by label doesn't begin with thousands of one class. Read to the end or close it
        (`contextlib.closing`).

        Raises:
            InputError: a file, a column, a text or a label is not as it should be, a wanted split has no rows, or the
                training rows are of one class only.
            HubUnreachable: the connection broke.
        """

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """About how many rows `splits` have, for a progress bar; None if only reading would tell."""
