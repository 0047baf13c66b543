"""The texts of a table without labels: the csv, json, parquet and arrow files that `predict.py` labels."""

import contextlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.schema import DataConfig
from textrnn.data.columns import TEXT_NAMES, joined, likely, listed_columns, refuse_missing_header
from textrnn.data.formats import UNREADABLE, reader_of
from textrnn.data.table_files import table_objects, table_rows, table_start

_SURROGATE = re.compile("[\ud800-\udfff]")
TEXTS_AT_A_TIME = 64
"""Rows of a `Rows`: so few that a thread encodes their texts within its core's cache."""


class Rows(NamedTuple):
    """Some rows of a table, with all their columns."""

    texts: list[str]
    """The text of each."""
    cells: Any
    """The rows as a `pyarrow.RecordBatch`, or as a list of dictionaries."""


@dataclass(frozen=True, slots=True)
class WholeTable:
    """A table with all its columns, read once."""

    columns: list[str]
    schema: Any
    """Types of the columns, a `pyarrow.Schema`; None of a json file, whose rows show them."""
    total: int | None
    """Number of rows, if known."""
    rows: Iterator[Rows]
    """At most `TEXTS_AT_A_TIME` rows at a time. Raises InputError: a row can't be read, or has no text."""


def text_columns(name: str, typed: Sequence[str] | None, trained: Sequence[str]) -> list[str]:
    """The columns of a table that hold its texts.

    Args:
        name: The file as it was typed; its ending says what it is.
        typed: Their names, if they were typed.
        trained: Names that the run was trained with, if not; instead of the default name the only likely one is taken.

    Raises:
        InputError: it can't be read, or has no such column.
    """
    path = typed_path(name, f"--file {name}")
    try:
        columns = _columns(path)
    except UNREADABLE as error:
        raise _refusal(name, path, 0, error) from error
    found = [*(typed or trained)]
    if not typed and found == DataConfig().text_columns():
        found = [likely(found[0], columns, TEXT_NAMES)]
    for column in found:
        if column not in columns:
            if reader_of(path) == "csv":
                refuse_missing_header(columns, f"--file {name}")
            raise InputError(
                f"--file {name} has no column {column!r} (columns: {listed_columns(columns)}); type --text-column NAME "
                "with the column that holds the texts."
            )
    return found


def read_texts_of(name: str, columns: Sequence[str]) -> Iterator[str]:
    """The texts of a table, a few rows at a time; those of several columns are joined as in training.

    Args:
        name: The file as it was typed.
        columns: From `text_columns`.

    Raises:
        InputError: it can't be read, or has a row without a text.
    """
    path = typed_path(name, f"--file {name}")
    number = 0
    try:
        for number, values in enumerate(_rows(path, columns), 1):
            yield _text(values, name, number, columns)
    except UNREADABLE as error:
        raise _refusal(name, path, number, error) from error


def _text(values: Sequence[Any], name: str, number: int, columns: Sequence[str]) -> str:
    text = joined(values)
    if not isinstance(text, str):
        raise InputError(
            f"--file {name}: row {number} has no text in column {', '.join(columns)!r}; correct or remove it."
        )
    if _SURROGATE.search(text):  # of an escape in json
        raise InputError(f"--file {name}: row {number} has half a character (a surrogate) in its text; correct it.")
    return text


def whole_table(name: str, text_columns: Sequence[str]) -> WholeTable:
    """A table with all its columns.

    Args:
        name: The file as it was typed.
        text_columns: From `text_columns`; texts of several are joined as in training.

    Raises:
        InputError: it can't be read, or has two columns of one name.
    """
    import pyarrow as pa

    path, reader = typed_path(name, f"--file {name}"), reader_of(Path(name))
    try:
        columns, schema, total = _columns(path), None, None
        if reader == "parquet":
            from pyarrow import parquet

            footer = parquet.ParquetFile(path)
            schema, total = footer.schema_arrow, footer.metadata.num_rows
        elif reader == "arrow":
            with _arrow_batches(path) as (schema, _):
                pass
        elif reader == "csv":
            schema = pa.schema([(column, pa.string()) for column in columns])
    except UNREADABLE as error:
        raise _refusal(name, path, 0, error) from error
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"--file {name} has {columns.count(column)} columns called {column!r}; rename one.")
    return WholeTable(columns, schema, total, _whole_rows(name, path, columns, text_columns))


def table_of_texts(texts: Iterable[str]) -> WholeTable:
    """A table of one column, `text`."""
    import pyarrow as pa

    stream = iter(texts)
    chunks = iter(lambda: list(islice(stream, TEXTS_AT_A_TIME)), [])
    rows = (Rows(chunk, [{"text": text} for text in chunk]) for chunk in chunks)
    return WholeTable(["text"], pa.schema([("text", pa.string())]), None, rows)


def _whole_rows(name: str, path: Path, columns: Sequence[str], text_columns: Sequence[str]) -> Iterator[Rows]:
    number = 0
    try:
        with contextlib.closing(_cells(path, columns)) as parts:
            for cells in parts:
                values: Iterable[Sequence[Any]]
                if isinstance(cells, list):
                    values = ([row.get(column) for column in text_columns] for row in cells)
                else:
                    values = zip(*(cells.column(column).to_pylist() for column in text_columns), strict=True)
                texts = [_text(row, name, number + place, text_columns) for place, row in enumerate(values, 1)]
                number += len(texts)
                yield Rows(texts, cells)
    except UNREADABLE as error:
        raise _refusal(name, path, number, error) from error


def _cells(path: Path, columns: Sequence[str]) -> Generator[Any]:
    """Yield the rows of a table as in `Rows.cells`."""
    reader = reader_of(path)
    if reader == "parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(TEXTS_AT_A_TIME)
    elif reader == "arrow":
        with _arrow_batches(path) as (_, batches):
            for batch in batches:
                yield from (batch.slice(start, TEXTS_AT_A_TIME) for start in range(0, len(batch), TEXTS_AT_A_TIME))
    else:
        rows: Iterator[dict[str, Any]] = table_objects(path, encoding="utf-8")
        if reader == "csv":
            table = table_rows(path, columns, delimiter=None, encoding="utf-8")
            rows = (dict(zip(columns, row, strict=True)) for row in table)
        yield from iter(lambda: list(islice(rows, TEXTS_AT_A_TIME)), [])


def _refusal(name: str, path: Path, number: int, error: Exception) -> InputError:
    if isinstance(error, UnicodeError):
        return InputError(f"--file {name}: row {number + 1} or one near it is not UTF-8; save the file as UTF-8.")
    reason = " ".join(str(error).split())
    return InputError(
        f"--file {name}: can't be read as {path.suffix} (after {number} rows: {reason}); correct the file."
    )


def _columns(path: Path) -> list[str]:
    reader = reader_of(path)
    if reader == "parquet":
        from pyarrow import parquet

        return [str(name) for name in parquet.read_schema(path).names]
    if reader == "arrow":
        with _arrow_batches(path) as (schema, _):
            return list(schema.names)
    return table_start(path, delimiter=None, encoding="utf-8")[0]


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Sequence[Any]]:
    reader = reader_of(path)
    if reader not in ("parquet", "arrow"):
        yield from table_rows(path, columns, delimiter=None, encoding="utf-8")
    elif reader == "arrow":
        with _arrow_batches(path) as (_, batches):
            for batch in batches:
                yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
    else:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000, columns=list(columns)):
                yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)


@contextlib.contextmanager
def _arrow_batches(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Yield the schema and the batches of an Arrow stream, as `datasets` writes it, or of an Arrow file."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield file.schema, map(file.get_batch, range(file.num_record_batches))
        else:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            yield reader.schema, iter(reader)
