"""One split in one file: reviews with their token ids in Arrow's IPC format, written once and memory-mapped."""

import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from textrnn.base.files import disk_errors

ROWS_PER_BATCH = 1000
"""Reviews in each of a file's record batches except the last; it gives a review's place in the file."""

TEXTS = pa.schema([("label", pa.int32()), ("text", pa.large_string())])
REVIEWS = pa.schema([("label", pa.int16()), ("text", pa.large_string()), ("token_ids", pa.list_(pa.int32()))])
"""Columns of a file of reviews, each with a class id."""


def reviews_schema(label: Any) -> Any:
    """Return the columns of a file of reviews whose labels are of the Arrow type `label`."""
    return REVIEWS.set(0, pa.field("label", label))


def label_type(classes: int, *, many: bool) -> Any:
    """Return the Arrow type of labels: a class id, or with several labels a review 0 or 1 for each of the classes."""
    return pa.list_(pa.uint8(), classes) if many else pa.int16()


class ReviewWriter:
    """Writes a file of reviews.

    Raises:
        InputError: the disk is full, read-only or gone, from every method.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        self._directory = path.parent
        self._schema = schema
        with disk_errors(self._directory):
            self._file = path.open("wb")
            self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, *columns: Sequence[Any]) -> None:
        """Add a record batch: the schema's columns, each `ROWS_PER_BATCH` long or, at the end of the file, shorter."""
        arrays = [
            lists_of_ids(column) if field.name == "token_ids" else pa.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self.write_batch(pa.record_batch(arrays, schema=self._schema))

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Add a record batch of the schema, of the same length as in `write`."""
        with disk_errors(self._directory):
            self._writer.write_batch(batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with disk_errors(self._directory), self._file:
            self._writer.close()


def lists_of_ids(reviews: Sequence[list[int]]) -> Any:
    """Return the column `token_ids`; Arrow's own conversion of lists of lists takes twice as long."""
    values, offsets = array("i"), [0]
    for ids in reviews:
        values.fromlist(ids)
        offsets.append(len(values))
    return pa.ListArray.from_arrays(np.array(offsets, dtype=np.int32), np.frombuffer(values, dtype=np.int32))


def read_texts(path: Path, rows: int = ROWS_PER_BATCH) -> Iterator[pa.RecordBatch]:
    """Yield the columns `TEXTS` of a file, `rows` reviews of a record batch at a time, as views on the mapped file."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows)


class Split:
    """The reviews of one split; token ids and texts are read from the disk when they are needed.

    Attributes:
        lengths: (reviews,) int32, tokens of each whole review, at least 1.
        labels: (reviews,) int16, class ids; with several labels a review (reviews, classes) uint8, 0 or 1.

    Raises:
        OSError, ValueError: the file is missing or not a file of reviews.
    """

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != reviews_schema(reader.schema.field(0).type):
            raise ValueError(f"{path} has the columns {reader.schema.names}")
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        if any(len(batch) != ROWS_PER_BATCH for batch in batches[:-1]):
            raise ValueError(f"{path} has record batches of other than {ROWS_PER_BATCH} reviews")
        # NumPy views on the mapped file, which they keep open.
        self._offsets: list[npt.NDArray[np.int32]] = [_view(b.column("token_ids").offsets) for b in batches]
        self._values: list[npt.NDArray[np.int32]] = [_view(b.column("token_ids").values) for b in batches]
        self._texts = [b.column("text") for b in batches]
        self.lengths: npt.NDArray[np.int32] = np.concatenate(
            [np.diff(o) for o in self._offsets] or [_nothing(np.int32)]
        )
        self.labels: npt.NDArray[Any] = np.concatenate(
            [_labels(b.column("label")) for b in batches] or [_nothing(np.int16)]
        )

    def token_ids(self, index: int) -> npt.NDArray[np.int32]:
        """Return the token ids of a whole review, (length,) int32: a read-only view on the file."""
        batch, row = divmod(int(index), ROWS_PER_BATCH)
        offsets = self._offsets[batch]
        return self._values[batch][offsets[row] : offsets[row + 1]]

    def token_counts(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """Return how often each token occurs in the whole reviews, (vocab_size,)."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for ids in self._values:
            counts += np.bincount(ids, minlength=vocab_size)
        return counts

    def crc32(self) -> int:
        """Return the checksum of labels and token ids."""
        checksum = zlib.crc32(self.lengths.data, zlib.crc32(self.labels.data))
        for offsets, ids in zip(self._offsets, self._values, strict=True):
            checksum = zlib.crc32(ids[offsets[0] : offsets[-1]].data, checksum)
        return checksum

    def text(self, index: int) -> str:
        """Return the original text of a review."""
        batch, row = divmod(int(index), ROWS_PER_BATCH)
        return str(self._texts[batch][row].as_py())

    def __len__(self) -> int:
        return len(self.lengths)


def _labels(column: Any) -> npt.NDArray[Any]:
    if pa.types.is_fixed_size_list(column.type):
        return _view(column.flatten()).reshape(len(column), column.type.list_size)
    return _view(column)


def _view(array: Any) -> npt.NDArray[Any]:
    """Return a read-only NumPy view on an Arrow array; `to_numpy` would import pandas."""
    return np.from_dlpack(array)


def file_summary(path: Path) -> dict[str, int]:
    """Return size and checksum of a file, to detect damage later."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
        return {"bytes": file.tell(), "crc32": checksum}


def _nothing(kind: Any) -> npt.NDArray[Any]:
    return np.empty(0, dtype=kind)
