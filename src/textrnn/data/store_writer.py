"""Making a token store: stream a source once, train a tokenizer on its texts, encode every review."""

import contextlib
import datetime
import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from textrnn.base.console import LOGGER, Progress
from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors, replacing_folder
from textrnn.base.process import in_advance
from textrnn.config.schema import ALL_SPLITS, SPLITS, UNLABELLED, DataConfig
from textrnn.data.classes import RowLabel, choose_classes
from textrnn.data.duplicates import leave_out_held_out
from textrnn.data.review_file import (
    ROWS_PER_BATCH,
    TEXTS,
    ReviewWriter,
    file_summary,
    label_type,
    lists_of_ids,
    read_texts,
    reviews_schema,
)
from textrnn.data.sources import NO_LABEL, Row, Source
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
    names = ALL_SPLITS if data.unlabelled else SPLITS
    with replacing_folder(path) as draft:
        labels, empty, repeated = _read(source, data, draft)
        reviews = Counter({name: labels.of_split[name].total() for name in SPLITS})
        _check_counts(reviews)
        classes = choose_classes(labels.of_split, data)
        if data.unlabelled:
            reviews[UNLABELLED], left_out = leave_out_held_out(draft)
            facts = facts | {"left_out": left_out}
        tokenizer_json = _train(draft, data, reviews)
        kind = label_type(len(classes.names), many=data.many_labels())
        ids = pa.array([classes.row(label) for label in labels.numbers], kind)
        tokens = _encode(draft, tokenizer_json, ids, reviews)
        meta = {
            **facts,
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "splits": {name: {"reviews": reviews[name], "tokens": tokens[name]} for name in names},
            "empty_reviews": empty,
            "repeated_reviews": repeated,
            "classes": classes.names,
            "files": {name: file_summary(draft / name) for name in ("tokenizer.json", *(f"{s}.arrow" for s in names))},
        }
        _write_text(draft / "meta.json", json.dumps(meta, indent=2))
    counts = ", ".join(f"{reviews[name]:,} {name}" for name in names)
    LOGGER.info(f"token store made in {time.monotonic() - started:.0f} s: {counts} reviews in {path}")
    if empty:
        LOGGER.warning(f"kept {empty:,} empty reviews; the model reads each as one unknown token")
    for name, count in repeated.items():
        if count:
            LOGGER.warning(f"{count:,} of the {reviews[name]:,} {name} reviews are training reviews too, to the letter")


def _rows(source: Source, data: DataConfig) -> Generator[Row]:
    """Yield the rows of the store: all, or with segments the first segment, the validation and the test set."""
    if data.segment_size is None:
        yield from source.rows(ALL_SPLITS if data.unlabelled else SPLITS)
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

    of_split: dict[str, Counter[RowLabel]]
    numbers: dict[RowLabel, int]
    """Numbers in the order in which they occurred: class ids are only known after reading."""


def _read(source: Source, data: DataConfig, draft: Path) -> tuple[_Labels, int, dict[str, int]]:
    """Stream the source's texts and the numbers of their labels into a file per split.

    Returns:
        The labels, the number of empty reviews, and `_repeated`.
    """
    found = _Labels({name: Counter() for name in SPLITS}, {})
    empty = 0
    names = ALL_SPLITS if data.unlabelled else SPLITS
    hashes = {name: array("q") for name in SPLITS}
    waiting: dict[str, tuple[list[int], list[str]]] = {name: ([], []) for name in names}
    total = source.expected_rows(names) if data.segment_size is None else None
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context(ReviewWriter(draft / f"{name}.texts", TEXTS)) for name in names}
        progress = stack.enter_context(Progress("read", total))
        rows = stack.enter_context(closing_rows(_rows(source, data)))
        for row in rows:
            labels, texts = waiting[row.split]
            texts.append(row.text)
            empty += not row.text.strip()
            if row.split == UNLABELLED:
                labels.append(0)
            else:
                labels.append(found.numbers.setdefault(row.label, len(found.numbers)))
                found.of_split[row.split][row.label] += 1
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


def _train(draft: Path, data: DataConfig, reviews: Counter[str]) -> str:
    """Train the tokenizer on the texts of `data.vocabulary_from` and write it."""
    names = ("train",) if data.vocabulary_from == "train" else ("train", UNLABELLED)

    def texts() -> Iterator[str]:
        for number, batch in enumerate(chain.from_iterable(read_texts(draft / f"{name}.texts") for name in names)):
            rows = batch.column("text").to_pylist()
            if number == 0 and data.tokenizer != "bpe" and lack_spaces(rows):
                LOGGER.warning(
                    f"data.tokenizer={data.tokenizer} takes whole clauses of these texts for words, as they have no "
                    "spaces between words; type data.tokenizer=bpe"
                )
            yield from rows
            progress.advance(len(batch))

    with Progress("learned from", sum(reviews[name] for name in names)) as progress:
        tokenizer_json = train_tokenizer(texts(), data.tokenizer, data.vocab_size).to_str()
    _write_text(draft / "tokenizer.json", tokenizer_json)
    return tokenizer_json


def _encode(draft: Path, tokenizer_json: str, ids: pa.Array, reviews: Counter[str]) -> Counter[str]:
    """Turn each split's texts into its file of reviews; return tokens per split."""
    tokenizer = load_tokenizer(tokenizer_json)
    tokens: Counter[str] = Counter()
    no_class = pa.array([NO_LABEL], pa.int16())
    with Progress("encoded", reviews.total()) as progress:
        for name in reviews:
            texts, class_ids = draft / f"{name}.texts", no_class if name == UNLABELLED else ids
            tokens[name] = encode_file(texts, draft / f"{name}.arrow", tokenizer, class_ids, progress.advance)
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
        reviews: The file to write, with the columns of `reviews_schema`.
        tokenizer: Encodes.
        class_ids: The labels, of a `label_type`, of the numbers that the texts have as labels.
        advance: Called with the number of newly written reviews.

    Raises:
        InputError: the disk refuses.
    """

    schema = reviews_schema(class_ids.type)

    def encode(rows: pa.RecordBatch) -> pa.RecordBatch:
        texts = rows.column("text")
        ids = lists_of_ids(encode_batch(tokenizer, texts.to_pylist()))
        return pa.record_batch([class_ids.take(rows.column("label")), texts, ids], schema=schema)

    tokens = 0
    with (
        ReviewWriter(reviews, schema) as writer,
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
