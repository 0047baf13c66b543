"""Writing a table with its columns and new ones: csv, tsv, jsonl or parquet, by the file's ending."""

import contextlib
import csv
import datetime
import decimal
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, TextIO

from textrnn.base.errors import InputError
from textrnn.base.files import replacing, typed_path
from textrnn.data.text_table import Rows, WholeTable

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
LABEL_SEPARATOR = "|"
"""Between several labels in a cell of csv; training reads it too."""

NewColumns = Mapping[str, Sequence[Any]]
"""Values of the new columns by name."""


def check_output(name: str, source: str) -> Path:
    """Return the path of a table to write, which doesn't exist yet.

    Args:
        name: The file as it was typed.
        source: The file that is read, as it was typed; "" or "-" for none.

    Raises:
        InputError: it exists, its ending is none of `ENDINGS`, or its folder is missing or can't be written.
    """
    typed = f"--output {name}"
    path = typed_path(name, typed)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{typed}: type a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    if path.exists():
        if source not in ("", "-") and path.samefile(typed_path(source, f"--file {source}")):
            raise InputError(f"{typed}: that is the file that is read; give another one.")
        raise InputError(f"{typed}: is there already; remove it, or give another file.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{typed}: there is no folder {folder}; make it, or give a file in another one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, os.strerror(errno.EACCES))
    return path


class TableWriter(Protocol):
    """Writes rows with new columns."""

    def write(self, parts: Sequence[Rows], new: NewColumns) -> None:
        """Add the rows of `parts`, at least one, in order, with the values of the new columns for all of them."""


@contextlib.contextmanager
def table_writer(path: Path, table: WholeTable, new: Mapping[str, type]) -> Iterator[TableWriter]:
    """Open a file to write; it has its name when it is complete, and is removed on failure.

    Args:
        path: From `check_output`.
        table: The table whose rows are written.
        new: The new columns and the types of their values: str, float, or list, which is one of str.

    Raises:
        InputError: the disk refuses, or a value doesn't fit the format.
    """
    with _disk_errors(path), replacing(path) as draft:
        if path.suffix.lower() == ".parquet":
            with draft.open("wb") as file, _Parquet(path, file, table.schema, new) as writer:
                yield writer
            return
        with draft.open("w", encoding="utf-8", newline="") as lines:
            columns = [*table.columns, *new]
            yield _Jsonl(path, lines) if path.suffix.lower() == ".jsonl" else _Csv(path, lines, columns)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _unwritable(path: Path, reason: str) -> InputError:
    return InputError(f"--output {path}: can't be written ({reason}); make room there, or give a file elsewhere.")


def _dictionaries(parts: Sequence[Rows], new: NewColumns) -> Iterator[dict[str, Any]]:
    """Yield the rows with their new values."""
    values = zip(*new.values(), strict=True)
    for part in parts:
        for row in part.cells if isinstance(part.cells, list) else part.cells.to_pylist():
            yield row | dict(zip(new, next(values), strict=True))


class _Lines:
    """A file of lines."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file

    def _json(self, value: object, *, escape: bool = False) -> str:
        return json.dumps(value, ensure_ascii=escape, default=self._text)

    def _text(self, value: object) -> str:
        """Return a value that csv and json lack, such as a date, as a text."""
        if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
            return str(value)
        raise _misfit(self._path, f"a column holds values of the type {type(value).__name__}", ".parquet")


class _Csv(_Lines):
    def __init__(self, path: Path, file: TextIO, columns: Sequence[str]) -> None:
        super().__init__(path, file)
        self._columns = columns
        self._table = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        self._write([columns])

    def write(self, parts: Sequence[Rows], new: NewColumns) -> None:
        joined = {name: [_joined(value) for value in values] for name, values in new.items()}
        self._write(map(self._cells, _dictionaries(parts, joined)))

    def _write(self, rows: Any) -> None:
        try:
            self._table.writerows(rows)
        except UnicodeEncodeError as error:
            half = error.object[error.start : error.end]
            raise _misfit(self._path, f"a row has half a character ({half!r})", ".jsonl") from error

    def _cells(self, row: dict[str, Any]) -> list[Any]:
        _check_columns(self._path, row, self._columns)
        return [self._cell(row.get(column)) for column in self._columns]

    def _cell(self, value: object) -> object:
        if value is None or isinstance(value, str | int | float):
            return value
        return self._json(value) if isinstance(value, list | dict) else self._text(value)


def _joined(value: Any) -> Any:
    return LABEL_SEPARATOR.join(value) if isinstance(value, list) else value


class _Jsonl(_Lines):
    def write(self, parts: Sequence[Rows], new: NewColumns) -> None:
        for row in _dictionaries(parts, new):
            try:
                self._file.write(f"{self._json(row)}\n")
            except UnicodeEncodeError:  # half a character, which json can escape
                self._file.write(f"{self._json(row, escape=True)}\n")


class _Parquet:
    """A row group for each call of `write`."""

    def __init__(self, path: Path, file: IO[bytes], schema: Any, new: Mapping[str, type]) -> None:
        import pyarrow as pa

        types = {str: pa.string(), float: pa.float64(), list: pa.list_(pa.string())}
        self._path = path
        self._file = file
        self._schema = schema
        self._new = [pa.field(name, types[kind]) for name, kind in new.items()]
        self._writer: Any = None

    def write(self, parts: Sequence[Rows], new: NewColumns) -> None:
        import pyarrow as pa

        if isinstance(parts[0].cells, list):
            table = self._typed([row for part in parts for row in part.cells])
        else:
            table = pa.Table.from_batches([part.cells for part in parts], self._schema)
        added = [pa.array(new[field.name], field.type) for field in self._new]
        writer = self._opened()
        writer.write_table(pa.Table.from_arrays([*table.columns, *added], schema=writer.schema))

    def _typed(self, rows: list[dict[str, Any]]) -> Any:
        """Return rows as a table; the first ones give each column its type, where the file has none."""
        import pyarrow as pa

        try:
            if self._schema is None:
                names = dict.fromkeys(name for row in rows for name in row)
                self._schema = pa.table({name: [row.get(name) for row in rows] for name in names}).schema
            for row in rows:
                _check_columns(self._path, row, self._schema.names)
            return pa.Table.from_pylist(rows, self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
            reason = " ".join(str(error).split())
            raise _misfit(
                self._path, f"a row's values don't have the types of the first rows ({reason})", ".jsonl"
            ) from error

    def _opened(self) -> Any:
        if self._writer is None:
            import pyarrow as pa
            from pyarrow import parquet

            schema = pa.schema([]) if self._schema is None else self._schema
            metadata = _with_features(schema.metadata, self._new)
            self._writer = parquet.ParquetWriter(self._file, pa.schema([*schema, *self._new], metadata))
        return self._writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._opened().close()
        elif self._writer is not None:  # the file is removed; an open writer would complain at its end
            with contextlib.suppress(OSError):
                self._writer.close()


def _with_features(metadata: dict[bytes, bytes] | None, new: Sequence[Any]) -> dict[bytes, bytes] | None:
    """Return a file's metadata with the new columns among the features that `datasets` has written there."""
    key = b"huggingface"
    if not metadata or key not in metadata:
        return metadata
    record = json.loads(metadata[key])
    for field in new:
        kind = {"dtype": "float64" if str(field.type) == "double" else "string", "_type": "Value"}
        record["info"]["features"][field.name] = (
            {"feature": kind, "_type": "List"} if str(field.type).startswith("list") else kind
        )
    return metadata | {key: json.dumps(record).encode()}


def _check_columns(path: Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    if other := row.keys() - {*columns}:
        raise _misfit(path, f"a row has a column {min(other)!r}, which the first rows lack", ".jsonl")


def _misfit(path: Path, what: str, ending: str) -> InputError:
    return InputError(
        f"--output {path}: {what}, which {path.suffix[1:]} can't hold; give a file that ends in {ending}."
    )
