"""Rows of labeled reviews: the protocol of all sources, the splits, and the checks of rows."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from textrnn.base.errors import InputError
from textrnn.config.schema import UNLABELLED, DataConfig
from textrnn.data.classes import Label, LabelColumn, NotALabel, RowLabel, single_labels

HASHED_SHARE = 0.1
"""Share of the training rows that replaces a missing validation or test split."""

NO_LABEL = -1
"""Class id of unlabelled reviews."""

Shares = Mapping[str, float]
"""Splits and their shares of the rows, which add up to 1."""

Examples = Generator[tuple[object, object], None, None]
"""Texts and labels as they were read, not yet checked."""


class Row(NamedTuple):
    """One review."""

    split: str
    text: str
    label: RowLabel
    """As it was read; the store has class ids. That of an unlabelled review is `NO_LABEL`."""


class Part(NamedTuple):
    """Rows of one stream."""

    where: str
    """Its name in a message, such as "train.csv"."""
    examples: Examples
    in_order: bool = True
    """Whether the stream keeps the order of the file, so that messages can give a row's number."""


def split_shares(held: Collection[str]) -> dict[str, Shares]:
    """Return the splits that each split of a source is divided into: a missing validation or test is cut from train."""
    cut = {split: HASHED_SHARE for split in ("validation", "test") if split not in held}
    whole: dict[str, Shares] = {split: {split: 1.0} for split in ("validation", "test") if split in held}
    return {"train": {**cut, "train": 1 - sum(cut.values())}, **whole}


def split_of(text: str, shares: Shares) -> str:
    """Return the split of a text, which depends on its hash alone: equal texts are always in the same split."""
    point = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return split


def expected_rows(
    shares: Mapping[str, Shares], splits: Collection[str], count: Callable[[str], int | None]
) -> int | None:
    """Return about how many rows `splits` have; `count` returns the rows of a source's split, or None if unknown."""
    expected = 0.0
    for held, parts in shares.items():
        wanted = sum(share for split, share in parts.items() if split in splits)
        if wanted:
            rows = count(held)
            if rows is None:
                return None
            expected += rows * wanted
    if UNLABELLED in splits:
        rows = count(UNLABELLED)
        if rows is None:
            return None
        expected += rows
    return round(expected)


def stream_rows(
    origin: str,
    shares: Mapping[str, Shares],
    parts: Callable[[str], Iterable[Part]],
    splits: Collection[str],
    data: DataConfig,
    *,
    measured: bool = False,
) -> Iterator[Row]:
    """Yield the rows of `splits` in one pass over the source's splits that they come from.

    Args:
        origin: The source as it is typed, such as "data.path=reviews.csv".
        shares: From `split_shares`, for the source's splits.
        parts: Opens the streams of one of the source's splits.
        splits: The wanted splits; unlabelled reviews come last, and nothing is read of them but their texts.
        data: The data configuration, for the columns' names in messages.
        measured: Whether a model is only measured on the rows: a split cut from others may have none, and labels are
            those of `data.classes`.

    Raises:
        InputError: a text or a label is refused, a wanted split has no rows, or the training rows are of one class.
    """
    labels = LabelColumn(origin, data)
    trained: set[Label] = set()
    for held, destinations in shares.items():
        if not any(split in splits for split in destinations):
            continue
        seen: Counter[tuple[str, RowLabel]] = Counter()
        first: dict[RowLabel, str] = {}  # rows of other splits
        with contextlib.closing(_examples(origin, parts(held), data)) as examples:
            for part, number, text, label in examples:
                try:
                    row = Row(split_of(text, destinations), text, labels.read(label))
                except NotALabel as error:
                    raise InputError(f"{origin}: {_name(part, number, text)} {error}") from error
                if row.split != "train" and row.label not in first:
                    first[row.label] = _name(part, number, text)
                seen[row.split, row.label] += 1
                if row.split in splits:
                    yield row
        whole = origin if len(shares) == 1 else f"{origin}: its {held} split"
        wanted = [] if measured else [split for split in destinations if split in splits]
        _check_split(origin, whole, wanted, seen)
        if held == "train" and not measured:
            trained = {single for split, label in seen if split == "train" for single in single_labels(label)}
            labels.check_training(trained, sum(count for (split, _), count in seen.items() if split == "train"))
        for label, name in first.items():
            for single in single_labels(label):
                if trained and (refusal := labels.unseen(single, trained)) is not None:
                    raise InputError(f"{origin}: {name} {refusal}")
    if UNLABELLED in splits:
        yield from _unlabelled_rows(origin, parts(UNLABELLED), data)


def _unlabelled_rows(origin: str, parts: Iterable[Part], data: DataConfig) -> Iterator[Row]:
    rows = 0
    with contextlib.closing(_examples(origin, parts, data)) as examples:
        for _, _, text, _ in examples:
            rows += 1
            yield Row(UNLABELLED, text, NO_LABEL)
    if not rows:
        raise InputError(f"{origin}: its {UNLABELLED} split has no rows; give it rows, or type data.unlabelled=false")


def _examples(
    origin: str, parts: Iterable[Part], data: DataConfig
) -> Generator[tuple[Part, int, str, object], None, None]:
    """Yield part, number, text and label of each row; close each part."""
    for part in parts:
        with contextlib.closing(part.examples):
            for number, (text, label) in enumerate(part.examples):
                if not isinstance(text, str):
                    raise InputError(f"{origin}: {_name(part, number, text)} {_refusal(text, data)}")
                yield part, number, text, label


def _name(part: Part, number: int, text: object) -> str:
    if part.in_order:
        return f"row {number} (counted from 0) of {part.where}"
    return f"the row of {part.where} that starts {str(text)[:40]!r}"


def _refusal(text: object, data: DataConfig) -> str:
    found = "no text" if text is None else f"no text but {text!r:.40}"
    return (
        f"has {found} in column {data.text_column!r}; correct or remove the row, "
        "or type data.text_column=NAME with the column that holds the texts"
    )


def _check_split(origin: str, whole: str, wanted: Iterable[str], seen: Mapping[tuple[str, RowLabel], int]) -> None:
    rows = sum(seen.values())
    if not rows:
        raise InputError(f"{whole} has no rows; give it rows with a text and a label")
    for split in wanted:
        found = [label for of, label in seen if of == split]
        if not found:
            raise InputError(
                f"{origin} has too few rows ({rows}) to cut the {split} split from them; "
                f"give it more, or put a {split} file beside them in a folder"
            )
        if split == "train" and len(found) == 1:
            (only,) = found
            name = f"with the labels ({', '.join(map(str, only))})" if isinstance(only, tuple) else f"of class {only}"
            raise InputError(f"{origin} has only training rows {name}; give it rows of another class too")


class Source(Protocol):
    """Labeled reviews in the splits train, validation and test, and with `data.unlabelled` those without labels."""

    name: str
    """Name for messages: "stanfordnlp/imdb@main", a path, or "synthetic reviews"."""

    def identity(self) -> dict[str, str | int | float | None]:
        """Return everything that determines the rows, as JSON values; "revision" is the Hub's commit.

        Raises:
            HubUnreachable: the Hub doesn't answer; `error.identity` is the identity without the revision.
            InputError: the Hub doesn't have it.
        """

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """Stream the rows of `splits` in one pass: training rows first, then validation, test and unlabelled rows.

        With `interleave`, training rows are read from many places at a time, in a fixed order, so that a file sorted by
        label doesn't begin with thousands of rows of one class. The caller must read to the end or close the iterator
        (`contextlib.closing`).

        Raises:
            InputError: a file, a column, a text or a label is invalid, a wanted split has no rows, or the training rows
                are of one class only.
            HubUnreachable: the connection broke.
        """

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have, for a progress bar; None if unknown before reading."""
