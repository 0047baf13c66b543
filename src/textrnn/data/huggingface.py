"""The `datasets` client, without log lines and copies on the disk, with every stream closed."""

import atexit
import contextlib
import functools
import gc
import io
import logging
import time
import warnings
from typing import Any

from textrnn.base.process import importing
from textrnn.config.schema import DataConfig
from textrnn.data.classes import Unnamed
from textrnn.data.columns import joined, joined_labels
from textrnn.data.sources import Examples
from textrnn.data.table_files import SHUFFLE_BUFFER, SHUFFLE_SEED

READ_ROUNDS = 2
"""How often the client reopens a broken stream; each attempt is six requests, about 25 s of waiting. The default of 20
attempts waits half an hour for a server that has stopped answering."""

READ_SIZE = 2**20
"""Bytes that are read at a time of each column of a parquet file."""

EXIT_SECONDS = 15.0
"""Maximum time that the interpreter's exit waits for a half-read stream, in seconds."""


@functools.cache
def import_datasets() -> Any:
    """Import the `datasets` library for streaming: without progress bars, messages and endless waits."""
    with importing():
        import datasets
    datasets.disable_progress_bars()
    silence_libraries()
    datasets.config.STREAMING_READ_MAX_RETRIES = READ_ROUNDS
    datasets.config.STREAMING_OPEN_MAX_RETRIES = READ_ROUNDS
    # This request goes to another host than the Hub, which a mirror or a firewall doesn't expect.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    # This sleeps at the end of each interleaved stream; `_wait_for_pyarrow` waits once, for the same reason.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    atexit.register(_wait_for_pyarrow)  # after `importing`, so that this runs before its exit function
    return datasets


def silence_libraries() -> None:
    """Silence the imported libraries: errors are raised, caught and reported in one sentence."""
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _wait_for_pyarrow() -> None:
    """Wait until pyarrow's threads have released the streamed files.

    They read and decode ahead, and continue for a moment after a stream is closed. The thread that releases a file last
    needs the interpreter, and aborts the process (status 134, https://github.com/apache/arrow/issues/45214) if the
    interpreter is shutting down. `use_buffered_reads` makes files all that they hold of the interpreter.
    """
    deadline = time.monotonic() + EXIT_SECONDS
    while time.monotonic() < deadline:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # csv files that the client left open
            gc.collect()
        if not any(_is_streamed_file(candidate) for candidate in gc.get_objects()):
            return
        time.sleep(0.02)


def _is_streamed_file(candidate: object) -> bool:
    # `type`, because `isinstance` would load lazy objects.
    if type(candidate) is io.BufferedReader:
        return candidate.closed and str(candidate.name).lower().endswith(".parquet")
    return type(candidate).__name__ == "HfFileSystemFile"


def use_buffered_reads(config: Any) -> None:
    """Let the client's configuration of a parquet stream read pages into pyarrow's own memory; leave other formats.

    By default pyarrow holds whole column chunks as the `bytes` that Python's file has returned. Its threads release
    them, in the same way as files, but nothing shows when they have: one process in a hundred aborted at its exit.
    """
    if hasattr(config, "fragment_scan_options"):
        from pyarrow.dataset import ParquetFragmentScanOptions

        config.fragment_scan_options = ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True, buffer_size=READ_SIZE
        )


def stream_examples(dataset: Any, data: DataConfig, *, interleave: bool) -> Examples:
    """Yield text and label of each row of an `IterableDataset`; the label is the class's name where it has one.

    The label is a list where a row has a list, a tuple of the values of several label columns, and None if
    `data.columns()` has no column for it.

    With `interleave`, rows are read from several places of the file at a time and through a shuffle buffer, in a fixed
    order. Parquet is read from as many places as it has row groups; a csv or jsonl file from one place, so only the
    buffer shuffles it.
    """
    names = class_names(dataset, data)
    dataset = dataset.select_columns(data.columns())
    if interleave:
        dataset = dataset.reshard().shuffle(seed=SHUFFLE_SEED, buffer_size=SHUFFLE_BUFFER)
    # Otherwise a half-read stream could still be open when the interpreter shuts down.
    with contextlib.closing(iter(dataset)) as examples:
        for example in examples:
            values = [example[column] for column in data.label_columns()]
            label = joined_labels(values) if values else None
            if isinstance(label, list):
                label = [_named(single, names) for single in label]
            yield joined([example[column] for column in data.text_columns()]), _named(label, names)


def _named(label: object, names: tuple[str, ...]) -> object:
    if names and isinstance(label, int):
        return names[label] if 0 <= label < len(names) else Unnamed(label)
    return label


def class_names(dataset: Any, data: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, ... of a data set's labels; () if it names none."""
    if len(columns := data.label_columns()) != 1:
        return ()
    label = (dataset.features or {}).get(columns[0])
    return tuple(getattr(getattr(label, "feature", label), "names", None) or ())  # a list's are those of its elements


def is_hidden(label: object) -> bool:
    """Return whether a label says that there is none, as in the test splits of contests."""
    return label is None or label == Unnamed(-1)


def columns_of(dataset: Any) -> list[str]:
    """Return the columns of an `IterableDataset`; for some formats they are known only after reading a row."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    with contextlib.closing(iter(dataset)) as examples:
        return list(next(examples, {}))
