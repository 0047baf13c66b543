"""Making a token store: stream a source once, train a tokenizer on its texts, encode every review."""

import contextlib
import datetime
import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from textrnn.base.console import LOGGER, Progress
from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors, replacing_folder
from textrnn.base.process import in_advance
from textrnn.config.schema import SPLITS, DataConfig
from textrnn.data.classes import Label, choose_classes
from textrnn.data.review_file import (
    REVIEWS,
    ROWS_PER_BATCH,
    TEXTS,
    ReviewWriter,
    file_summary,
    lists_of_ids,
    read_texts,
)
from textrnn.data.sources import Row, Source
from textrnn.data.tokenizer import encode_batch, encoding_threads, lack_spaces, load_tokenizer, train_tokenizer

TEXTS_AT_A_TIME = 50
"""Texts that a thread encodes at once, a divisor of `ROWS_PER_BATCH`: so few that their encodings (100 bytes per token)
are still in the core's cache when their ids are read."""


def make_store(path: Path, data: DataConfig, source: Source, facts: dict[str, Any]) -> None:
    """Make the store `path`, inside `making(path)`; on failure nothing is left.

    Args:
        path: The store's folder; a damaged store there is replaced.
        data: Tokenizer and segment settings.
        source: The source.
        facts: Entries of `meta.json` besides the counts.

    Raises:
        InputError: the source has no reviews for a split, or the disk refuses.
    """
    started = time.monotonic()
    with replacing_folder(path) as draft:
        labels, empty, repeated = _read(source, data, draft)
        reviews = Counter({name: labels.of_split[name].total() for name in SPLITS})
        _check_counts(reviews)
        classes = choose_classes(labels.of_split, data)
        tokenizer_json = _train(draft, data, reviews["train"])
        ids = pa.array([classes.get(label) for label in labels.numbers], pa.int16())
        tokens = _encode(draft, tokenizer_json, ids, reviews.total())
        meta = {
            **facts,
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "splits": {name: {"reviews": reviews[name], "tokens": tokens[name]} for name in SPLITS},
            "empty_reviews": empty,
            "repeated_reviews": repeated,
            "classes": classes.names,
            "files": {name: file_summary(draft / name) for name in ("tokenizer.json", *(f"{s}.arrow" for s in SPLITS))},
        }
        _write_text(draft / "meta.json", json.dumps(meta, indent=2))
    counts = ", ".join(f"{reviews[name]:,} {name}" for name in SPLITS)
    LOGGER.info(f"token store made in {time.monotonic() - started:.0f} s: {counts} reviews in {path}")
    if empty:
        LOGGER.warning(f"kept {empty:,} empty reviews; the model reads each as one unknown token")
    for name, count in repeated.items():
        if count:
            LOGGER.warning(f"{count:,} of the {reviews[name]:,} {name} reviews are training reviews too, to the letter")


def _rows(source: Source, data: DataConfig) -> Generator[Row]:
    """Yield the rows of the store: all, or with segments the first segment, the validation and the test set."""
    if data.segment_size is None:
        yield from source.rows(SPLITS)
        return
    training = validation = 0
    with closing_rows(source.rows(("train", "validation"), interleave=True)) as rows:
        for row in rows:
            training += row.split == "train"
            yield row
            validation += row.split == "validation"
            if training == data.segment_size:
                break
    if not validation:  # the source has a split of its own for it
        yield from source.rows(("validation",))
    yield from source.rows(("test",))


@contextlib.contextmanager
def closing_rows(rows: Iterator[Row]) -> Iterator[Iterator[Row]]:
    """Close rows that may be half-read: an open stream can abort the interpreter at its exit."""
    try:
        yield rows
    finally:
        if isinstance(rows, Generator):
            rows.close()


class _Labels(NamedTuple):
    """The labels of a source."""

    of_split: dict[str, Counter[Label]]
    numbers: dict[Label, int]
    """Numbers in the order in which they occurred: class ids are only known after reading."""


def _read(source: Source, data: DataConfig, draft: Path) -> tuple[_Labels, int, dict[str, int]]:
    """Stream the source's texts and the numbers of their labels into a file per split.

    Returns:
        The labels, the number of empty reviews, and `_repeated`.
    """
    found = _Labels({name: Counter() for name in SPLITS}, {})
    empty = 0
    hashes = {name: array("q") for name in SPLITS}
    waiting: dict[str, tuple[list[int], list[str]]] = {name: ([], []) for name in SPLITS}
    total = source.expected_rows(SPLITS) if data.segment_size is None else None
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context(ReviewWriter(draft / f"{name}.texts", TEXTS)) for name in SPLITS}
        progress = stack.enter_context(Progress("read", total))
        rows = stack.enter_context(closing_rows(_rows(source, data)))
        for row in rows:
            labels, texts = waiting[row.split]
            labels.append(found.numbers.setdefault(row.label, len(found.numbers)))
            texts.append(row.text)
            found.of_split[row.split][row.label] += 1
            empty += not row.text.strip()
            if data.segment_size is None:  # with segments, most training reviews are never here
                hashes[row.split].append(hash(row.text))
            if len(texts) == ROWS_PER_BATCH:
                writers[row.split].write(labels, texts)
                waiting[row.split] = ([], [])
                progress.advance(ROWS_PER_BATCH)
        for name, (labels, texts) in waiting.items():
            if texts:
                writers[name].write(labels, texts)
    return found, empty, _repeated(hashes) if data.segment_size is None else {}


def _repeated(hashes: dict[str, "array[int]"]) -> dict[str, int]:
    """Return how many reviews of each other split are training reviews too, by 64-bit hashes."""
    train, *others = (np.frombuffer(hashes[name], dtype=np.int64) for name in SPLITS)
    return {name: int(np.isin(other, train).sum()) for name, other in zip(SPLITS[1:], others, strict=True)}


def _check_counts(reviews: Counter[str]) -> None:
    for name in SPLITS:
        if reviews[name] == 0:
            counts = ", ".join(f"{reviews[other]:,} {other}" for other in SPLITS)
            raise InputError(
                f"data: there is no {name} review ({counts}); give more reviews "
                "(data.path with a larger file, or a larger data.synthetic.train_reviews or data.segment_size)"
            )


def _train(draft: Path, data: DataConfig, total: int) -> str:
    """Train the tokenizer on the training texts and write it."""

    def texts() -> Iterator[str]:
        for number, batch in enumerate(read_texts(draft / "train.texts")):
            rows = batch.column("text").to_pylist()
            if number == 0 and data.tokenizer != "bpe" and lack_spaces(rows):
                LOGGER.warning(
                    f"data.tokenizer={data.tokenizer} takes whole clauses of these texts for words, as they have no "
                    "spaces between words; type data.tokenizer=bpe"
                )
            yield from rows
            progress.advance(len(batch))

    with Progress("learned from", total) as progress:
        tokenizer_json = train_tokenizer(texts(), data.tokenizer, data.vocab_size).to_str()
    _write_text(draft / "tokenizer.json", tokenizer_json)
    return tokenizer_json


def _encode(draft: Path, tokenizer_json: str, ids: pa.Array, total: int) -> Counter[str]:
    """Turn each split's texts into its file of reviews; return tokens per split."""
    tokenizer = load_tokenizer(tokenizer_json)
    tokens: Counter[str] = Counter()
    with Progress("encoded", total) as progress:
        for name in SPLITS:
            texts = draft / f"{name}.texts"
            tokens[name] = encode_file(texts, draft / f"{name}.arrow", tokenizer, ids, progress.advance)
            texts.unlink()
    return tokens


def encode_file(
    texts: Path,
    reviews: Path,
    tokenizer: Tokenizer,
    class_ids: pa.Array,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Encode a file of texts into a file of reviews; return its number of tokens.

    Threads, one per core, encode the next texts while the previous ones are written.

    Args:
        texts: File with the columns `TEXTS`.
        reviews: The file to write, with the columns `REVIEWS`.
        tokenizer: Encodes.
        class_ids: int16, the class ids of the numbers that the texts' labels are.
        advance: Called with the number of newly written reviews.

    Raises:
        InputError: the disk refuses.
    """

    def encode(rows: pa.RecordBatch) -> pa.RecordBatch:
        texts = rows.column("text")
        ids = lists_of_ids(encode_batch(tokenizer, texts.to_pylist()))
        return pa.record_batch([class_ids.take(rows.column("label")), texts, ids], schema=REVIEWS)

    tokens = 0
    with (
        ReviewWriter(reviews, REVIEWS) as writer,
        encoding_threads(tokenizer) as threads,
        # Closed, so that the threads end before the file does.
        contextlib.closing(
            in_advance(encode, read_texts(texts, TEXTS_AT_A_TIME), ahead=2 * threads, threads=threads)
        ) as encoded,
    ):
        while parts := list(islice(encoded, ROWS_PER_BATCH // TEXTS_AT_A_TIME)):
            (batch,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
            writer.write_batch(batch)
            tokens += len(batch.column("token_ids").values)
            advance(len(batch))
    return tokens


def _write_text(path: Path, text: str) -> None:
    with disk_errors(path.parent):
        path.write_text(text, encoding="utf-8")
