"""Reviews from folders and files on this machine (`data.path`)."""

import dataclasses
import functools
import glob
import itertools
import random
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.data_paths import data_paths, typed_data
from textrnn.config.schema import ALL_SPLITS, UNLABELLED, DataConfig
from textrnn.data.class_folders import class_of, digest
from textrnn.data.classes import LOOKED_AT, NotClasses, columns_like_classes
from textrnn.data.columns import check_columns, column_identity, find_columns, joined, joined_labels
from textrnn.data.formats import UNREADABLE, opened_text, reader_of
from textrnn.data.huggingface import (
    class_names,
    columns_of,
    import_datasets,
    is_hidden,
    stream_examples,
    use_buffered_reads,
)
from textrnn.data.sources import HASHED_SHARE, Examples, Part, Row, expected_rows, split_shares, stream_rows
from textrnn.data.split_files import files_by_split
from textrnn.data.table_files import DELIMITERS, SHUFFLE_SEED, mixed, table_rows, table_start

_HIDDEN = (
    "type data.path=FILE with the training file, or move this one elsewhere, and the set is cut from the training texts"
)


class LocalSource:
    """Tables or a folder per class of texts, each file of the split that it is named after; one file is cut.

    Raises InputError for what names and sizes show; `rows` raises it for the rest.

    Args:
        data: The data configuration.
        measured: Whether a model is only measured on the reviews: they need not do for training.
    """

    def __init__(self, data: DataConfig, *, measured: bool = False) -> None:
        self.name = typed_data(data.path).removeprefix("data.path=")
        self._data = data
        self._origin = typed_data(data.path)
        self._measured = measured
        self._root, self._files = files_by_split(
            data_paths(data.path), self._origin, unlabelled=data.unlabelled, measured=measured
        )
        self._reader = self._one_reader()
        self._shares = split_shares(self._files)
        if "train" not in self._files:
            del self._shares["train"]
        self._header = functools.cache(self._read_header)

    @property
    def splits(self) -> list[str]:
        """The splits that files are named after; files of no split are in "train"."""
        return list(self._files)

    def identity(self) -> dict[str, str | int | float | None]:
        """Return the columns, and names, sizes and times of the files that are read."""
        data, default = self._data, DataConfig()
        identity: dict[str, str | int | float | None] = {
            "kind": "files",
            "hashed_share": HASHED_SHARE,
            **column_identity(data),
        }
        identity |= {
            name: getattr(data, name)
            for name in ("delimiter", "encoding")
            if getattr(data, name) != getattr(default, name)
        }
        for split in ALL_SPLITS:
            files = self._files.get(split, [])
            if self._reader == "text" and files:
                identity[split] = f"{len(files)} texts, {digest(files, self._root)}"
                continue
            for file in files:
                status = file.stat()
                identity[f"{split}/{self._relative(file)}"] = f"{status.st_size} bytes, changed at {status.st_mtime_ns}"
        return identity

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have, from parquet's footers or the number of texts; None if unknown."""
        return expected_rows(self._shares, splits, self._count)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One pass over the files that `splits` need; see `Source.rows`."""
        data = self._data if self._reader == "text" else self._with_columns(splits)
        try:
            yield from stream_rows(
                self._origin,
                self._shares,
                lambda held: self._parts(held, interleave, data),
                splits,
                data,
                measured=self._measured,
            )
        except NotClasses as error:
            raise error.naming(columns_like_classes(self._first_rows(self._files["train"][0]), data)) from error

    def _first_rows(self, file: Path) -> Iterator[dict[str, Any]]:
        """Yield the first rows of a file by column; of a folder of texts, none."""
        if self._reader in ("csv", "json"):
            columns = self._header(file)[0]
            rows = table_rows(file, columns, delimiter=self._data.delimiter, encoding=self._data.encoding)
            for row in itertools.islice(rows, LOOKED_AT):
                yield dict(zip(columns, row, strict=True))
        elif self._reader != "text":
            yield from _load(self._reader, [file]).take(LOOKED_AT)

    def _one_reader(self) -> str:
        files = [file for group in self._files.values() for file in group]
        readers = {reader_of(file) or "text": self._relative(file) for file in files}
        if len(readers) > 1:
            raise InputError(
                f"{self._origin} mixes formats ({', '.join(readers.values())}); keep the files of one format there"
            )
        (reader,) = readers
        for file in files:
            if reader != "text" and not file.stat().st_size:
                raise InputError(f"{self._origin}: {self._relative(file)} is empty; give it rows or remove it")
        return reader

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()

    def _count(self, held: str) -> int | None:
        if self._reader == "text":
            return len(self._files[held])
        if self._reader != "parquet":
            return None
        try:
            return sum(_parquet_rows(file) for file in self._files[held])
        except (OSError, ValueError):  # a damaged file, which reading it will report in detail
            return None

    def _with_columns(self, splits: Collection[str]) -> DataConfig:
        """Return the data configuration with the columns that the files of `splits` have.

        Raises:
            InputError: a file can't be read, or its columns are not certain.
        """
        data = self._data
        wanted = [held for held, destinations in self._shares.items() if {*destinations} & {*splits}] or ["train"]
        for number, held in enumerate(wanted):
            file = self._files[held][0]
            where = f"{self._origin}: {self._relative(file)}"
            try:
                columns, delimiter = self._header(file)
            except UNREADABLE as error:
                raise self._refusal(self._relative(file), 0, error) from error
            if delimiter not in (None, "\t" if ".tsv" in file.name.lower() else ",") and self._data.delimiter is None:
                LOGGER.info(f"{where}: its columns are separated by {DELIMITERS.get(str(delimiter), repr(delimiter))}")
            if self._reader == "parquet" and not columns:
                continue
            if number == 0:
                data = find_columns(columns, where, data, header=self._reader == "csv")
            elif held != "train" and {*data.text_columns()} <= {*columns}:
                for name in data.label_columns():
                    if name not in columns:
                        raise InputError(f"{where} has no column {name!r}: its labels are hidden; {_HIDDEN}")
        return data

    def _parts(self, held: str, interleave: bool, data: DataConfig) -> Iterator[Part]:
        files = self._files[held]
        if held == UNLABELLED:
            data = dataclasses.replace(data, label_column="")
        if interleave and held == "train":
            where = "the training files" if len(files) > 1 else self._relative(files[0])
            yield Part(where, self._examples(files, where, data, interleave=True), in_order=False)
        elif self._reader == "text":
            for folder, texts in itertools.groupby(files, key=lambda file: file.parent):
                where = self._relative(folder)
                yield Part(where, self._examples(list(texts), where, data, interleave=False))
        else:
            for file in files:
                where = self._relative(file)
                yield Part(where, self._examples([file], where, data, interleave=False))

    def _examples(self, files: Sequence[Path], where: str, data: DataConfig, *, interleave: bool) -> Examples:
        rows = 0
        readers = {"text": self._texts, "csv": self._table, "json": self._table}
        try:
            for example in readers.get(self._reader, self._arrow)(files, where, data, interleave):
                yield example
                rows += 1
        except UNREADABLE as error:
            raise self._refusal(where, rows, error) from error

    def _refusal(self, where: str, rows: int, error: Exception) -> InputError:
        """Return the sentence about a file that can't be read after a number of rows."""
        if isinstance(error, UnicodeError):
            encoding, reason = self._data.encoding.upper(), getattr(error, "reason", error)
            start = error.object[:2] if isinstance(error, UnicodeDecodeError) else b""
            other = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
            advice = "save it as UTF-8"
            if self._reader not in ("parquet", "arrow"):
                advice = f"type data.encoding={other} or the encoding that it has, or save it as UTF-8"
            return InputError(f"{self._origin}: {where} is not {encoding} text (after {rows} rows: {reason}); {advice}")
        reason = " ".join(str(error).split())
        return InputError(
            f"{self._origin}: {where} cannot be read as {self._reader} (after {rows} rows: {reason}); "
            "correct the file or name another with data.path"
        )

    def _texts(self, files: Sequence[Path], where: str, data: DataConfig, interleave: bool) -> Iterator[Any]:
        del where
        if interleave:
            files = random.Random(SHUFFLE_SEED).sample(files, len(files))
        for file in files:
            try:
                with opened_text(file, data.encoding) as opened:
                    text = opened.read()
            except UNREADABLE as error:
                raise self._refusal(self._relative(file), 0, error) from error
            yield text, class_of(file.parent, self._root)

    def _table(self, files: Sequence[Path], where: str, data: DataConfig, interleave: bool) -> Iterator[Any]:
        del where
        for file in files:
            check_columns(self._header(file)[0], f"{self._origin}: {self._relative(file)}", data)
        columns, texts = data.columns(), len(data.text_columns())
        streams = (table_rows(file, columns, delimiter=data.delimiter, encoding=data.encoding) for file in files)
        for row in mixed(streams) if interleave else itertools.chain.from_iterable(streams):
            yield joined(row[:texts]), joined_labels(row[texts:]) if data.label_columns() else None

    def _arrow(self, files: Sequence[Path], where: str, data: DataConfig, interleave: bool) -> Iterator[Any]:
        if self._reader == "parquet":  # the client fails on a file without rows
            files = [file for file in files if _parquet_rows(file)]
        for file in files:
            check_columns(self._header(file)[0], f"{self._origin}: {self._relative(file)}", data)
        if not files:
            return
        if len({class_names(_load(self._reader, [file]), data) for file in files}) > 1:
            raise InputError(
                f"{self._origin}: {where} name the classes of {data.label_column!r} differently; write all "
                "with the same names"
            )
        dataset, training = _load(self._reader, files), files[0] in self._files.get("train", [])
        for number, example in enumerate(stream_examples(dataset, data, interleave=interleave)):
            if not number and not training and data.label_column and is_hidden(example[1]):
                raise InputError(f"{self._origin}: the labels of {where} are hidden; {_HIDDEN}")
            yield example

    def _read_header(self, file: Path) -> tuple[list[str], str | None]:
        """Return a file's columns and, of a csv file, its delimiter."""
        if self._reader in ("csv", "json"):
            return table_start(file, delimiter=self._data.delimiter, encoding=self._data.encoding)
        if self._reader == "parquet" and not _parquet_rows(file):
            return [], None
        return columns_of(_load(self._reader, [file])), None


def _load(reader: str, files: Sequence[Path]) -> Any:
    """Return parquet or arrow files as an `IterableDataset`."""
    datasets = import_datasets()
    patterns = [glob.escape(str(file)) for file in files]
    # The client leaves a lock file for each file it opens; with a read-only cache it would fail.
    with tempfile.TemporaryDirectory() as scratch:
        builder = datasets.load_dataset_builder(reader, data_files=patterns, cache_dir=scratch)
        use_buffered_reads(builder.config)
        return builder.as_streaming_dataset("train")


def _parquet_rows(file: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(file).num_rows)
