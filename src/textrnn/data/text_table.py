"""The texts of a table without labels: the csv, json, parquet and arrow files that `predict.py` labels."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.schema import DataConfig
from textrnn.data.columns import TEXT_NAMES, joined, likely, listed_columns, refuse_missing_header
from textrnn.data.formats import UNREADABLE, reader_of
from textrnn.data.table_files import table_rows, table_start


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
            text = joined(values)
            if not isinstance(text, str):
                raise InputError(
                    f"--file {name}: row {number} has no text in column {', '.join(columns)!r}; correct or remove it."
                )
            yield text
    except UNREADABLE as error:
        raise _refusal(name, path, number, error) from error


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
        with _arrow_batches(path) as (names, _):
            return names
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
def _arrow_batches(path: Path) -> Iterator[tuple[list[str], Iterator[Any]]]:
    """Yield the columns and the batches of an Arrow stream, as `datasets` writes it, or of an Arrow file."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield list(file.schema.names), map(file.get_batch, range(file.num_record_batches))
        else:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            yield list(reader.schema.names), iter(reader)
