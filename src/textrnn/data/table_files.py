"""Rows of csv and json files, compressed or not, in any encoding: nothing is guessed but a csv file's delimiter."""

import csv
import itertools
import json
import random
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from textrnn.data.columns import LABEL_NAMES, TEXT_NAMES
from textrnn.data.formats import opened_text, reader_of

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""Delimiters that are found by looking; of two that fit, the first."""
SHUFFLE_SEED = 0
SHUFFLE_BUFFER = 10_000
"""Rows in the buffer of an interleaved stream, about 15 MB of reviews."""
_FILES_AT_A_TIME = 10


class Table(NamedTuple):
    """The start of a csv or json file."""

    columns: list[str]
    delimiter: str | None
    """Of a csv file."""
    rows: Iterator[Any]
    """Of a csv file lists of cells, of a json file what its rows are; valid while the file is open."""


def table_start(path: Path, *, delimiter: str | None, encoding: str) -> tuple[list[str], str | None]:
    """Return a file's columns, and the delimiter of a csv file; [] for a file without any.

    Raises:
        UNREADABLE: it can't be read.
    """
    with opened_text(path, encoding) as file:
        table = _table(path, file, delimiter)
        return table.columns, table.delimiter


def table_rows(path: Path, columns: Sequence[str], *, delimiter: str | None, encoding: str) -> Iterator[list[Any]]:
    """Yield the values of some columns of each row; None where a row has none.

    Raises:
        UNREADABLE: it can't be read; ValueError says why a row can't.
    """
    with opened_text(path, encoding) as file:
        table = _table(path, file, delimiter)
        if table.delimiter is not None:
            try:
                yield from _cells(table, columns)
            except (csv.Error, ValueError) as error:
                if isinstance(error, UnicodeError) or not _has_escaped_quotes(path, encoding, table.delimiter):
                    raise
                raise ValueError(
                    'quotes within its texts are written \\", and csv doubles them: ""; with pandas, '
                    "read_csv(FILE, escapechar='\\\\').to_csv(FILE, index=False) rewrites them"
                ) from error
            return
    for row in table_objects(path, encoding=encoding):
        yield [row.get(column) for column in columns]


def table_objects(path: Path, *, encoding: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a json file with all their columns, which may differ from row to row.

    Raises:
        UNREADABLE: it can't be read; ValueError says why a row can't.
    """
    with opened_text(path, encoding) as file:
        for number, row in enumerate(_json_rows(file)):
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is no object with columns")
            yield row


def _has_escaped_quotes(path: Path, encoding: str, delimiter: str) -> bool:
    """Return whether a csv file has a backslash before a quote that doesn't end its cell."""
    escaped = re.compile(rf'\\"[^"\r\n{re.escape(delimiter)}]')
    with opened_text(path, encoding) as file:
        return any(escaped.search(line) for line in file)


def _table(path: Path, file: TextIO, delimiter: str | None) -> Table:
    if reader_of(path) == "csv":
        return _csv_table(file, delimiter)
    rows = _json_rows(file)
    first: Any = next(rows, {})
    return Table(list(map(str, first)) if isinstance(first, dict) else [], None, itertools.chain([first], rows))


def _csv_table(file: TextIO, delimiter: str | None) -> Table:
    csv.field_size_limit(sys.maxsize)  # 131,072 characters otherwise
    first = file.readline().removeprefix("\ufeff")  # the mark of utf-16-le, which its codec leaves
    if first.lower().startswith("sep=") and len(first.rstrip("\r\n")) == 5:  # written by Excel
        delimiter = delimiter or first[4]
        first = file.readline()
    while first and not first.strip():
        first = file.readline()
    delimiter = "\t" if delimiter == "tab" else delimiter or _found_delimiter(first)
    rows = csv.reader(itertools.chain([first], file), delimiter=delimiter, strict=True)
    return Table(next(rows, []), delimiter, rows)


def _found_delimiter(header: str) -> str:
    """Return the delimiter that makes the most known names of columns, then the most columns, from a header."""

    def fit(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([header], delimiter=delimiter), [])
        return sum(cell.strip().lower() in (*TEXT_NAMES, *LABEL_NAMES) for cell in cells), len(cells)

    return max(DELIMITERS, key=fit)


def _cells(table: Table, columns: Sequence[str]) -> Iterator[list[str | None]]:
    """Yield the cells of some columns; without any conversion, so that neither "NA" nor "" is a missing value."""
    for column in columns:
        if table.columns.count(column) > 1:
            raise ValueError(f"it has {table.columns.count(column)} columns called {column!r}")
    places, width = [table.columns.index(column) for column in columns], len(table.columns)
    number = 0
    for row in table.rows:
        if not row:  # an empty line
            continue
        if len(row) > width or len(row) <= max(places):
            delimited = DELIMITERS.get(str(table.delimiter), repr(table.delimiter))
            raise ValueError(
                f"row {number} has {len(row)} fields between {delimited}, and the header {width}: texts with "
                f"{delimited} in them need double quotes, and a file needs one delimiter"
            )
        yield [row[place] for place in places]
        number += 1


def _json_rows(file: TextIO) -> Iterator[Any]:
    """Yield the rows of jsonl, or of json that is an array of objects."""
    lines = (line for line in file if line.strip())
    first = next(lines, "").removeprefix("\ufeff")
    if first.lstrip().startswith("["):
        yield from json.loads(first + file.read())
    elif first:
        yield from map(json.loads, itertools.chain([first], lines))


def mixed(streams: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """Yield from several streams in turn, shuffled within a buffer, in a fixed order."""
    generator = random.Random(SHUFFLE_SEED)
    buffer: list[Any] = []
    for value in _in_turn(streams):
        if len(buffer) < SHUFFLE_BUFFER:
            buffer.append(value)
            continue
        place = generator.randrange(SHUFFLE_BUFFER)
        yield buffer[place]
        buffer[place] = value
    generator.shuffle(buffer)
    yield from buffer


def _in_turn(streams: Iterable[Iterator[Any]]) -> Iterator[Any]:
    waiting = iter(streams)
    active = deque(itertools.islice(waiting, _FILES_AT_A_TIME))
    while active:
        stream = active.popleft()
        try:
            yield next(stream)
            active.append(stream)
        except StopIteration:
            active.extend(itertools.islice(waiting, 1))
