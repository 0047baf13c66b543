"""A column of texts in a table without labels: the csv, jsonl and parquet files that `predict.py` labels."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.data.split_files import READERS


def read_column(name: str, column: str) -> Iterator[str]:
    """The texts of a table, a few rows at a time.

    Args:
        name: The file as it was typed; its ending says what it is.
        column: The column of texts.

    Raises:
        InputError: it can't be read, has no such column, or has a row without a text in it.
    """
    path = typed_path(name, f"--file {name}")
    number = 0
    try:
        for number, row in enumerate(_ROWS[READERS[path.suffix.lower()]](path, column), 1):
            if not isinstance(row, dict) or column not in row:
                columns = ", ".join(map(str, row)) if isinstance(row, dict) else "none"
                raise InputError(
                    f"--file {name}: row {number} has no column {column!r} (columns: {columns}); type --text-column "
                    "NAME with the column that holds the texts."
                )
            if not isinstance(row[column], str):
                raise InputError(f"--file {name}: row {number} has no text in column {column!r}; correct or remove it.")
            yield row[column]
    except UnicodeDecodeError as error:
        raise InputError(
            f"--file {name}: row {number + 1} or one near it is not UTF-8; save the file as UTF-8."
        ) from error
    except (OSError, ValueError, csv.Error) as error:  # ValueError: what json and pyarrow raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"--file {name}: can't be read as {path.suffix} (after {number} rows: {reason}); correct the file."
        ) from error


def _csv_rows(path: Path, column: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)  # 131,072 characters otherwise
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if rows.fieldnames is not None and column not in rows.fieldnames:
            yield dict.fromkeys(rows.fieldnames)  # which is refused, also without rows
        yield from rows


def _json_rows(path: Path, column: str) -> Iterator[Any]:
    del column
    with path.open(encoding="utf-8-sig") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _parquet_rows(path: Path, column: str) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if column not in names:
            yield dict.fromkeys(names)
        for batch in file.iter_batches(1000, columns=[column]):
            yield from batch.to_pylist()


_ROWS = {"csv": _csv_rows, "json": _json_rows, "parquet": _parquet_rows}
