"""Segments: training on a corpus larger than memory or disk, some of its reviews at a time.

Segment 0 is the training split of the store. While the run trains on one segment, a separate process streams and
encodes the next; the previous one is deleted, so at most two files exist. A pass over the source ends with a shorter
segment, then the next pass begins.
"""

import atexit
import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors, remove_if_abandoned, replacing
from textrnn.base.locks import FileLock
from textrnn.base.process import available_cores
from textrnn.base.signals import NUMBERS, kept_from_children
from textrnn.config.schema import DataConfig
from textrnn.data.classes import ClassIds, listed_classes, single_labels, typed_classes
from textrnn.data.review_file import ROWS_PER_BATCH, ReviewWriter, Split, label_type, reviews_schema
from textrnn.data.sources import Row, Source
from textrnn.data.store import Store, cache_dir, open_source
from textrnn.data.tokenizer import RAYON_THREADS, encode_batch, load_tokenizer


class SegmentStream:
    """A source's training reviews, cut into segments, pass after pass.

    Args:
        source: The source, read from the start for each pass.
        size: Reviews in a segment; the last of a pass may have fewer.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._next = 0
        self._rows: Iterator[Row] | None = None
        self._pass_start = 0
        self._segments_a_pass: int | None = None

    def segment(self, index: int, check: Callable[[], None] = lambda: None) -> Iterator[Row]:
        """Yield the rows of a segment that has not begun yet; skip the rows before it, calling `check` meanwhile.

        Raises:
            InputError: the source has no training review.
        """
        while self._next < index:
            a_pass = self._segments_a_pass
            if a_pass is not None and index - self._next >= a_pass:
                self._next += (index - self._next) // a_pass * a_pass  # the same position, passes later
            else:
                for number, _ in enumerate(self._take()):
                    if number % ROWS_PER_BATCH == 0:
                        check()
        return self._take()

    def _take(self) -> Iterator[Row]:
        """Yield the next segment's rows."""
        rows = self._rows
        first = None if rows is None else next(rows, None)
        if first is None:
            if rows is not None:
                self._end_pass()
            rows = self._rows = self._source.rows(("train",), interleave=True)
            self._pass_start = self._next
            first = next(rows, None)
            if first is None:
                raise InputError("data: there is no train review; give more reviews (data.path with a larger file)")
        assert rows is not None
        self._next += 1
        yield first
        reviews = 1
        for row in islice(rows, self._size - 1):
            reviews += 1
            yield row
        if reviews < self._size:
            self._end_pass()

    def _end_pass(self) -> None:
        self._segments_a_pass = self._next - self._pass_start
        self._rows = None


SECONDS_BETWEEN_LOOKS = 0.1
FEWEST_TO_JUDGE = 32
"""Size from which on a segment of one class is not by chance: in shuffled rows its probability is 2**-31."""


def new_directory(data: DataConfig) -> Path:
    """Return a unique name for a run's segments, without making the directory."""
    return cache_dir(data) / "segments" / f"{uuid.uuid4().hex[:8]}-{os.getpid()}"


class Segments:
    """The training reviews, a segment at a time; one process of a run encodes, all read.

    Args:
        data: The data configuration, with `segment_size`.
        store: The store made with this `data`: its tokenizer encodes, its training split is segment 0.
        directory: The folder of the run's segments, from `new_directory`; the same for all processes.
        encodes: Whether this process encodes; its object must be made before those of the other processes.
        source: The source to read instead of `open_source(data)`; it must be picklable.

    Attributes:
        waited_seconds: Total time that `segment` has waited for encoding.

    Raises:
        InputError: the directory cannot be made.
    """

    def __init__(
        self, data: DataConfig, store: Store, *, directory: Path, encodes: bool = True, source: Source | None = None
    ) -> None:
        self.waited_seconds = 0.0
        self._data = data
        self._store = store
        self._directory = directory
        self._lock = FileLock(_lock_path(directory))
        self._current: tuple[int, Split] | None = None
        self._encoder: _Encoder | None = None
        if encodes:
            with disk_errors(directory.parent):
                self._lock.acquire()
                for lock in directory.parent.glob("*.lock"):
                    remove_if_abandoned(lock.with_suffix(""), lock)
                directory.mkdir()
            self._encoder = _Encoder(_pinned(data, store), store, directory, source)
            atexit.register(self.close)  # a daemon process may be killed in the middle of a file

    def segment(self, index: int) -> Split:
        """Return segment `index`, counted over all passes, when it is encoded, and start encoding the next one.

        Raises:
            InputError: the disk is full, the source is sorted so that the segment has a single class, or it has a class
                that the first segment lacks.
            RuntimeError: encoding failed; the message holds the other process's traceback.
        """
        if self._current is not None and self._current[0] == index:
            return self._current[1]
        self._current = None
        started = time.monotonic()
        if index == 0:
            split = self._store.split("train")
        else:
            if self._encoder is not None:
                self._encoder.finish(index)
            else:
                self._wait(index)
            split = Split(_segment_path(self._directory, index))
            self.waited_seconds += time.monotonic() - started
        if self._encoder is not None:
            self._encoder.keep_only(index)
            self._encoder.begin(index + 1)
        one_label = split.labels.ndim == 1  # of several labels, any set may be frequent, such as none
        if one_label and len(split) >= FEWEST_TO_JUDGE and split.labels.min() == split.labels.max():
            raise InputError(
                f"data.segment_size={self._data.segment_size}: segment {index} holds reviews of class "
                f"{self._store.classes[split.labels[0]]} only; shuffle the rows of the source, or type a larger "
                "data.segment_size."
            )
        self._current = (index, split)
        return split

    def close(self) -> None:
        """Stop encoding and delete the files; open files stay readable."""
        if self._encoder is not None:
            self._encoder.stop()
            self._encoder = None
            shutil.rmtree(self._directory, ignore_errors=True)
            self._lock.release()
            with contextlib.suppress(OSError):  # not empty: another run's segments
                self._directory.parent.rmdir()
            atexit.unregister(self.close)

    def _wait(self, index: int) -> None:
        """Wait for a file that another process of the run writes."""
        path = _segment_path(self._directory, index)
        while not path.exists():
            if not self._lock.is_held():
                raise RuntimeError(f"the process that encodes the segments in {self._directory} has ended")
            time.sleep(SECONDS_BETWEEN_LOOKS)


class _Encoder:
    """The background process and the one segment that it encodes."""

    def __init__(self, data: DataConfig, store: Store, directory: Path, source: Source | None) -> None:
        self._arguments = (data, store.tokenizer_json, store.classes, directory, source, os.getpid())
        self._directory = directory
        self._process: BaseProcess | None = None
        self._index: int | None = None

    def begin(self, index: int) -> None:
        """Start encoding a segment; encoding of another one is canceled."""
        if self._index == index:
            return
        if self._index is not None:
            self.stop()
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_encode_segments, args=(theirs, *self._arguments), daemon=True)
            # The tracker goes first: its start, which `start` would bring about, unblocks signals.
            for begin in (resource_tracker.ensure_running, self._process.start):
                with kept_from_children():
                    begin()
            theirs.close()
        with contextlib.suppress(BrokenPipeError):  # the process has ended: `finish` reports how
            self._connection.send(index)
        self._index = index

    def finish(self, index: int) -> None:
        """Wait until a segment is encoded."""
        self.begin(index)
        assert self._process is not None
        try:
            failure = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            failure = (False, f"the process ended with exit code {code}")
        self._index = None
        if failure is not None:
            is_input, message = failure
            self.stop()
            raise InputError(message) if is_input else RuntimeError(f"encoding segment {index} failed: {message}")

    def keep_only(self, index: int) -> None:
        """Delete all segments but this one."""
        for path in self._directory.iterdir():
            if path != _segment_path(self._directory, index):
                path.unlink()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()  # the process notices this within a batch of reviews
            self._process.join(timeout=5)
            self._process.kill()
            self._process.join()
            self._process = None
            self._index = None


class _StoppedError(Exception):
    """The parent process doesn't need the segment any more."""


def _encode_segments(
    orders: Connection,
    data: DataConfig,
    tokenizer_json: str,
    classes: tuple[str, ...],
    directory: Path,
    source: Source | None,
    parent: int,
) -> None:
    """Body of the background process: encode the ordered segments until the orders end."""
    # Ctrl-C and a cluster's signals reach all processes of a job; the parent handles them.
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    # tqdm, which `datasets` imports, would make a lock between processes: a semaphore that only a normal exit releases,
    # so Python would warn of a leak.
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())
    # Half of the cores, as the others train. The library reads this when it starts its threads.
    os.environ.setdefault(RAYON_THREADS, str(max(1, available_cores() // 2)))
    assert data.segment_size is not None

    def check() -> None:
        if os.getppid() != parent or orders.poll():
            raise _StoppedError

    try:
        tokenizer, ids = load_tokenizer(tokenizer_json), ClassIds(classes)
        schema = reviews_schema(label_type(len(classes), many=data.many_labels()))
        stream = SegmentStream(source or open_source(data), data.segment_size)
        while True:
            index = _next_order(orders, parent)
            path = _segment_path(directory, index)
            with replacing(path) as draft, ReviewWriter(draft, schema) as writer:
                reviews = stream.segment(index, check)
                while rows := list(islice(reviews, ROWS_PER_BATCH)):
                    check()
                    texts = [row.text for row in rows]
                    writer.write([_class_id(row, ids) for row in rows], texts, encode_batch(tokenizer, texts))
            _report(orders, None)
    except _StoppedError:
        pass
    except BaseException as error:
        is_input = isinstance(error, InputError)
        _report(orders, (is_input, str(error) if is_input else traceback.format_exc()))
    # The stream is half-read: a normal exit can abort the interpreter in the libraries' threads.
    os._exit(0)


def _class_id(row: Row, classes: ClassIds) -> int | list[int]:
    """Return the class id of a review, or 0 or 1 for each class (`ClassIds.row`).

    Raises:
        InputError: the first segment has no review of its class.
    """
    found = classes.row(row.label)
    if found is None:
        label = next(single for single in single_labels(row.label) if classes.get(single) is None)
        raise InputError(
            f"data.segment_size: the review that starts {row.text[:40]!r} has the label {label!r:.40}, which no "
            f"training row of segment 0 has (classes: {listed_classes(classes.names)}); type "
            f"{typed_classes((*classes.names, str(label)))}"
        )
    return found


def _next_order(orders: Connection, parent: int) -> int:
    """Wait for the number of the segment to encode."""
    while not orders.poll(1.0):
        if os.getppid() != parent:
            raise _StoppedError
    try:
        return int(orders.recv())
    except (EOFError, ConnectionResetError) as end:
        raise _StoppedError from end


def _report(orders: Connection, failure: tuple[bool, str] | None) -> None:
    """Send the parent the end of a segment's encoding, or the error; ignore a parent that no longer listens."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        orders.send(failure)


def _pinned(data: DataConfig, store: Store) -> DataConfig:
    """Return `data` with the commit that the store was made from, as a branch may have moved since."""
    revision = store.meta["key"]["source"].get("revision")
    return data if revision is None else dataclasses.replace(data, revision=revision)


def _lock_path(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _segment_path(directory: Path, index: int) -> Path:
    return directory / f"{index:06d}.arrow"
