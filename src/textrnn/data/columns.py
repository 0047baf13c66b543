"""Columns of texts and labels: those that are named, or the only likely ones; texts of several columns are joined."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import DataConfig

TEXT_NAMES = (
    *("text", "texts", "review", "reviews", "review_text", "review_body", "reviewtext", "content", "sentence"),
    *("comment", "tweet", "message", "document", "body"),
)
LABEL_NAMES = (
    *("label", "labels", "sentiment", "class", "target", "stars", "rating", "category", "polarity", "topic"),
    *("airline_sentiment", "emotion"),
)
"""Names of columns, in any case, that are taken for the default ones where these are missing."""

_PLAIN = re.compile(r"[\w./:-]+")
"""A name that needs no quotes in a shell."""
_SHOWN, _LISTED = 40, 12
"""Characters of a column's name, and columns, that a message shows: a file without a header has a text as a name."""


def find_columns(columns: Sequence[str], where: str, data: DataConfig, *, header: bool = False) -> DataConfig:
    """Return `data` with the columns to read: those that it names, or the only likely ones, in a line.

    Args:
        columns: The columns that there are.
        where: Their file or data set, for messages.
        data: The data configuration.
        header: Whether their names are the first line of a file, which may have none.

    Raises:
        InputError: a column is missing, and none or several are likely.
    """
    text = data.text_column
    if text == DataConfig().text_column:
        text = likely(text, columns, TEXT_NAMES)
    label = data.label_column
    if label == DataConfig().label_column:  # a list is not
        label = likely(label, columns, LABEL_NAMES)
    found = replace(data, text_column=text, label_column=label)
    if header and not {*found.columns()} <= {*columns}:
        refuse_missing_header(columns, where)
    check_columns(columns, where, found)
    if found != data:
        LOGGER.info(f"columns: {', '.join(found.columns())}")
    return found


def likely(default: str, columns: Collection[str], names: Collection[str]) -> str:
    """Return the only column with one of these names; `default` if it is there, or if none or several are likely."""
    found = _all_likely(columns, names)
    return found[0] if default not in columns and len(found) == 1 else default


def _all_likely(columns: Collection[str], names: Collection[str]) -> list[str]:
    return [column for column in columns if column.strip().lower() in names]


def check_columns(columns: Collection[str], where: str, data: DataConfig) -> None:
    """Raise InputError if one of `data.columns()` is not among `columns`."""
    texts = data.text_columns()
    for name in data.columns():
        key, names = ("data.text_column", TEXT_NAMES) if name in texts else ("data.label_column", LABEL_NAMES)
        if name not in columns:
            near = _all_likely(columns, names)
            near = near if len(near) > 1 else difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
            raise InputError(
                f"{where} has no column {name!r} (columns: {listed_columns(columns)}); {_advice(key, near)}"
            )


def refuse_missing_header(columns: Sequence[str], where: str) -> None:
    """Raise InputError if the first line of a file is rather a row than the names of its columns."""
    if any(len(name) > _SHOWN or name.strip().lstrip("-").isdecimal() for name in columns):
        raise InputError(
            f"{where} seems to have no header: its first line starts {columns[0][:_SHOWN]!r}; write the names of the "
            "columns there, such as text,label"
        )


def listed_columns(columns: Collection[str]) -> str:
    """Return the names of columns, shortened; "none" if there are none."""
    shown = [name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in columns]
    names = [name if name.strip() == name else repr(name) for name in shown[:_LISTED]]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return f"{', '.join(names)}{more}" if shown else "none"


def _advice(key: str, near: Sequence[str]) -> str:
    if not near:
        return f"type {key}=NAME"
    if any(character in name for name in near for character in "'\"\\$\n"):  # shells and Hydra treat these specially
        return f"rename it in the file, or type {key}=NAME"
    typed = [f"{key}={name}" if _PLAIN.fullmatch(name) else f"'{key}=\"{name}\"'" for name in near]
    return f"type {' or '.join(typed)}"


def column_identity(data: DataConfig) -> dict[str, str]:
    """Return the columns that are typed, as JSON values of a source's identity; a list as Python writes it."""
    keys = ("text_column", "label_column")
    return {key: name if isinstance(name := getattr(data, key), str) else repr(name) for key in keys}


def joined(values: Sequence[object]) -> object:
    """Return the texts of a row as one text, with an empty line between them; missing and empty ones are left out.

    A value that is no text is returned instead, for the message that refuses it; None if all are missing.
    """
    if len(values) == 1:
        return values[0]
    there = [value for value in values if value is not None]
    wrong = [value for value in there if not isinstance(value, str)]
    if wrong or not there:
        return wrong[0] if wrong else None
    return "\n\n".join(text for text in map(str, there) if text.strip())


def joined_labels(values: Sequence[object]) -> object:
    """Return the label of a row as it was read: the only value, or a tuple with that of each label column."""
    return values[0] if len(values) == 1 else tuple(values)
