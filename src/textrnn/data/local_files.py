"""Reviews from a folder or a file on this machine (`data.path`)."""

import glob
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.schema import SPLITS, DataConfig
from textrnn.data.huggingface import (
    check_columns,
    check_separator,
    class_names,
    columns_of,
    import_datasets,
    stream_examples,
)
from textrnn.data.sources import HASHED_SHARE, Examples, Part, Row, expected_rows, split_shares, stream_rows
from textrnn.data.split_files import FORMATS, READERS, files_by_split


class LocalSource:
    """Parquet, csv or jsonl files, each of the split that it is named after (`split_files`); one file is cut.

    Raises InputError for what names and sizes show; `rows` raises it for the rest.
    """

    def __init__(self, data: DataConfig) -> None:
        self.name = str(data.path)
        self._data = data
        self._origin = f"data.path={data.path}"
        path = typed_path(self.name, self._origin).absolute()
        if not path.exists():
            raise InputError(f"{self._origin} does not exist (looked for {path}); type data.path={FORMATS}")
        self._root = path if path.is_dir() else path.parent
        self._files = files_by_split(path, self._origin)
        self._reader = self._one_reader()
        self._shares = split_shares(self._files)

    def identity(self) -> dict[str, str | int | float | None]:
        """Return the columns, and names, sizes and times of the files that are read."""
        files = {
            f"{split}/{self._relative(file)}": f"{file.stat().st_size} bytes, changed at {file.stat().st_mtime_ns}"
            for split in SPLITS
            for file in self._files.get(split, [])
        }
        columns = {"text_column": self._data.text_column, "label_column": self._data.label_column}
        return {"kind": "files", "hashed_share": HASHED_SHARE, **columns, **files}

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have, from the footers of parquet files; None for other formats."""
        return expected_rows(self._shares, splits, self._count)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One pass over the files that `splits` need; see `Source.rows`."""
        return stream_rows(self._origin, self._shares, lambda held: self._parts(held, interleave), splits, self._data)

    def _one_reader(self) -> str:
        files = [file for group in self._files.values() for file in group]
        readers = {READERS[file.suffix.lower()]: self._relative(file) for file in files}
        if len(readers) > 1:
            raise InputError(
                f"{self._origin} mixes formats ({', '.join(readers.values())}); keep the files of one format there"
            )
        for file in files:
            if not file.stat().st_size:
                raise InputError(f"{self._origin}: {self._relative(file)} is empty; give it rows or remove it")
        return next(iter(readers))

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()

    def _count(self, held: str) -> int | None:
        if self._reader != "parquet":
            return None
        try:
            return sum(_parquet_rows(file) for file in self._files[held])
        except (OSError, ValueError):  # a damaged file, which reading it will report in detail
            return None

    def _parts(self, held: str, interleave: bool) -> Iterator[Part]:
        files = self._files[held]
        if interleave and held == "train":
            where = "the training files" if len(files) > 1 else self._relative(files[0])
            yield Part(where, self._examples(files, where, interleave=True), in_order=False)
        else:
            for file in files:
                where = self._relative(file)
                yield Part(where, self._examples([file], where, interleave=False))

    def _examples(self, files: Sequence[Path], where: str, *, interleave: bool) -> Examples:
        rows = 0
        try:
            if self._reader == "parquet":  # the client fails on a file without rows
                files = [file for file in files if _parquet_rows(file)]
            for file in files:
                check_columns(self._columns(file), f"{self._origin}: {self._relative(file)}", self._data)
            if not files:
                return
            if self._reader == "parquet" and len({class_names(self._load([file]), self._data) for file in files}) > 1:
                raise InputError(
                    f"{self._origin}: {where} name the classes of {self._data.label_column!r} differently; write all "
                    "with the same names"
                )
            for example in stream_examples(self._load(files), self._data, interleave=interleave):
                yield example
                rows += 1
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._origin}: {where} is not UTF-8 text (after {rows} rows: {error.reason}); save it as UTF-8"
            ) from error
        except (OSError, ValueError) as error:  # from pandas and pyarrow, for files that they cannot parse
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self._origin}: {where} cannot be read as {self._reader} (after {rows} rows: {reason}); "
                "correct the file or name another"
            ) from error

    def _columns(self, file: Path) -> list[str]:
        if self._reader != "csv":
            return columns_of(self._load([file]))
        with file.open(encoding="utf-8-sig") as text:
            check_separator(text.readline(), f"{self._origin}: {self._relative(file)}")
        # Two lines without a header: so a first row with more fields than the header is an error; otherwise its columns
        # would be shifted.
        lines = list(_load("csv", [file], header=None, nrows=2, keep_default_na=False))
        return [str(name) for name in lines[0].values()]

    def _load(self, files: Sequence[Path]) -> Any:
        if self._reader != "csv":
            return _load(self._reader, files)
        from datasets import Features, Value

        # As text, so that neither "NA" nor an empty review is a missing value.
        columns = Features({self._data.text_column: Value("string"), self._data.label_column: Value("string")})
        return _load("csv", files, features=columns, keep_default_na=False, index_col=False)


def _load(reader: str, files: Sequence[Path], **options: Any) -> Any:
    """Return the files as an `IterableDataset`."""
    datasets = import_datasets()
    patterns = [glob.escape(str(file)) for file in files]
    # The client leaves a lock file for each file it opens; with a read-only cache it would fail.
    with tempfile.TemporaryDirectory() as scratch:
        return datasets.load_dataset(
            reader, data_files=patterns, split="train", streaming=True, cache_dir=scratch, **options
        )


def _parquet_rows(file: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(file).num_rows)
