"""The `datasets` client: quiet, without copies on the disk, with every stream closed; errors of the Hub."""

import atexit
import contextlib
import difflib
import functools
import gc
import io
import logging
import re
import time
import warnings
from collections.abc import Mapping
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.process import importing
from textrnn.config.schema import DataConfig
from textrnn.data.sources import Examples

SHUFFLE_SEED = 0
SHUFFLE_BUFFER = 10_000
"""Rows in the buffer of an interleaved stream, about 15 MB of reviews."""

READ_ROUNDS = 2
"""How often the client goes back to a stream that broke; each round is six requests of its own, about 25 s of waiting.
Its default of 20 rounds waits for half an hour on a server that has stopped answering."""

EXIT_SECONDS = 15.0
"""Longest time that the interpreter's exit waits for a stream that was left half-read."""

LABEL_TEXTS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
"""Labels that are texts, as all of csv files are; 1.0 is what a column of integers becomes that once had a gap."""

CLASS_NAMES = {"negative": 0, "neg": 0, "bad": 0, "0": 0, "positive": 1, "pos": 1, "good": 1, "1": 1}
"""Names of classes, in any case."""

_PLAIN = re.compile(r"[\w./:-]+")
"""A name that a shell hands on as it is."""


@functools.cache
def import_datasets() -> Any:
    """The `datasets` library, set up for streaming: no bars, no messages of its own, no waits without end."""
    with importing():
        import datasets
    datasets.disable_progress_bars()
    silence_libraries()
    datasets.config.STREAMING_READ_MAX_RETRIES = READ_ROUNDS
    datasets.config.STREAMING_OPEN_MAX_RETRIES = READ_ROUNDS
    # A request to another host than the Hub, which a mirror or a firewall doesn't expect.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    # Sleeps at the end of each interleaved stream, against what `_wait_for_pyarrow` waits for once.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    atexit.register(_wait_for_pyarrow)  # after `importing`, and so called before what that leaves for the end
    return datasets


def silence_libraries() -> None:
    """What goes wrong is raised, caught and told in one sentence; the libraries, once imported, would print it too."""
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _wait_for_pyarrow() -> None:
    """Wait until pyarrow's threads have let go of the files that were streamed.

    They read and decode ahead, and go on for a moment after a stream is closed. The thread that drops a file last needs
    the interpreter for it, and aborts the process (status 134, https://github.com/apache/arrow/issues/45214) where the
    interpreter is already shutting down.
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
    # By `type`, because `isinstance` would wake objects that load themselves when they are looked at.
    if type(candidate) is io.BufferedReader:
        return candidate.closed and str(candidate.name).lower().endswith(".parquet")
    return type(candidate).__name__ == "HfFileSystemFile"


def stream_examples(dataset: Any, data: DataConfig, origin: str, *, interleave: bool) -> Examples:
    """Text and label of each row of an `IterableDataset`; `origin` is where it comes from, for messages.

    With `interleave`, rows come from several places of the file at a time and through a shuffle buffer, in an order
    that is always the same. Parquet is read from as many places as it has row groups; a csv or jsonl file is one piece,
    of which only the buffer is shuffled.
    """
    labels = _labels_of_classes(class_names(dataset, data), data.label_column, origin)
    dataset = dataset.select_columns([data.text_column, data.label_column])
    if interleave:
        dataset = dataset.reshard().shuffle(seed=SHUFFLE_SEED, buffer_size=SHUFFLE_BUFFER)
    # Left to the garbage collector, a half-read stream would still be open when the interpreter shuts down.
    with contextlib.closing(iter(dataset)) as examples:
        for example in examples:
            label = example[data.label_column]
            if isinstance(label, str):
                label = LABEL_TEXTS.get(label.strip(), label)
            elif labels:
                label = labels.get(label, label)
            yield example[data.text_column], label


def class_names(dataset: Any, data: DataConfig) -> tuple[str, ...]:
    """Names of the classes 0, 1, ... that a data set gives its labels; () where it names none."""
    label = (dataset.features or {}).get(data.label_column)
    return tuple(getattr(label, "names", None) or ())


@functools.cache  # says once how it understands names
def _labels_of_classes(names: tuple[str, ...], column: str, origin: str) -> Mapping[Any, int | str]:
    """Labels by the numbers of classes with these names; the name itself for a class that is neither.

    Raises:
        InputError: it isn't certain which class is negative and which positive.
    """
    known = [CLASS_NAMES.get(name.strip().lower()) for name in names]
    if {0, 1} <= set(known):
        return {n: name if known[n] is None else known[n] for n, name in enumerate(names)}  # type: ignore[misc]
    if not names:
        return {}
    if len(names) != 2 or any(label not in (None, number) for number, label in enumerate(known)):
        raise InputError(
            f"{origin}: column {column!r} holds the classes {', '.join(names)}, which are not negative and positive; "
            "name the two classes so, or type data.label_column=NAME with a column of 0 (negative) and 1 (positive)"
        )
    LOGGER.info(f"{origin}: the class {names[0]!r} is called negative here, and {names[1]!r} positive")
    return {}


def columns_of(dataset: Any) -> list[str]:
    """The columns of an `IterableDataset`, of which some formats know only once a row is read."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    with contextlib.closing(iter(dataset)) as examples:
        return list(next(examples, {}))


def check_columns(columns: list[str], where: str, data: DataConfig) -> None:
    """Raise InputError if the text or label column is not among `columns`."""
    for key, wanted in (("data.text_column", data.text_column), ("data.label_column", data.label_column)):
        if wanted not in columns:
            near = difflib.get_close_matches(wanted, columns, n=1, cutoff=0.5)
            there = ", ".join(map(_shown, columns)) if columns else "none"
            raise InputError(f"{where} has no column {wanted!r} (columns: {there}); {_advice(key, near)}")


def check_separator(header: str, where: str) -> None:
    """Raise InputError if the first line of a csv file is one column for lack of a comma."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in header and "," not in header:
            raise InputError(
                f"{where}: its columns are separated by {name}; data.path=FILE.csv needs commas, so save it with them"
            )


def _advice(key: str, near: list[str]) -> str:
    if not near:
        return f"type {key}=NAME"
    if any(character in near[0] for character in "'\"\\$\n"):  # which shells and Hydra read in ways of their own
        return f"rename it in the file, or type {key}=NAME"
    return f"type {key}={near[0]}" if _PLAIN.fullmatch(near[0]) else f"type '{key}=\"{near[0]}\"'"


def _shown(column: str) -> str:
    return column if column.strip() == column else repr(column)


def network_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises when the network or the server fails; ValueError: it sent what can't be parsed."""
    # The name by which the client passes on its HTTP library, which is httpx or httpx2 with its version.
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL)


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
