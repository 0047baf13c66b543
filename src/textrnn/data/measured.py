"""Labeled reviews that a trained run is measured on: the run's own, wherever they are now, or other ones.

They are encoded with the run's tokenizer, and no token store is made of them.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from tokenizers import Tokenizer

from textrnn.base.console import Progress
from textrnn.base.errors import InputError
from textrnn.base.files import disk_errors
from textrnn.config.data_paths import typed_data
from textrnn.config.schema import SPLITS, DataConfig
from textrnn.data.classes import ClassIds, RowLabel, listed_classes
from textrnn.data.local_files import LocalSource
from textrnn.data.review_file import ROWS_PER_BATCH, TEXTS, ReviewWriter, Split, label_type
from textrnn.data.store import cache_dir
from textrnn.data.store_writer import closing_rows, encode_file


class Measured(NamedTuple):
    """Reviews to measure a run on."""

    split: Split
    is_own: bool
    """Whether they are those of the run's split."""
    is_whole: bool
    """Whether they are all reviews of the data, which have no splits."""


def measured_split(
    data: DataConfig, name: str, *, tokenizer: Tokenizer, classes: Sequence[str], own: dict[str, int]
) -> Measured:
    """Read and encode the reviews of `data.path`.

    Data with splits are read as in training. Data without are cut as in training; if that isn't the run's split, all
    of them are measured.

    Args:
        data: The run's data configuration, with the path and the columns of these reviews.
        name: The split.
        tokenizer: The run's.
        classes: The run's.
        own: Content of the run's split, from `Store.record`.

    Raises:
        InputError: the reviews can't be read, there is no such split, a label is none of the classes, or the disk
            refuses.
    """
    data = replace(data, unlabelled=False, classes=list(classes))
    source = LocalSource(data, measured=True)
    has_splits = source.splits != ["train"]
    if "train" not in source.splits and name not in source.splits:
        raise InputError(
            f"{typed_data(data.path)} holds no {name} reviews, only {' and '.join(source.splits)}; type --split "
            f"{source.splits[0]}."
        )
    cache = cache_dir(data)
    with disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
    # The split's files are mapped, so they are readable after the folder is gone.
    with tempfile.TemporaryDirectory(prefix="measured-", dir=cache) as scratch:
        folder = Path(scratch)
        counts = {"whole": 0} if has_splits else {"cut": 0, "whole": 0}
        labels = _read(source, (name,) if has_splits else SPLITS, name, folder, counts)
        ids = _class_ids(labels, classes, data)
        for part in counts:
            if part == "whole" or counts[part] == own["reviews"]:
                with Progress("encoded", counts[part]) as progress:
                    encode_file(folder / f"{part}.texts", folder / f"{part}.arrow", tokenizer, ids, progress.advance)
                split = Split(folder / f"{part}.arrow")
                if split_content(split) == own:
                    return Measured(split, is_own=True, is_whole=False)
        return Measured(split, is_own=False, is_whole=not has_splits)


def split_content(split: Split) -> dict[str, int]:
    """Return the content of a split, as in `Store.record`."""
    return {"reviews": len(split), "tokens": int(split.lengths.sum()), "crc32": split.crc32()}


def _read(
    source: LocalSource, splits: Sequence[str], name: str, folder: Path, counts: dict[str, int]
) -> dict[RowLabel, int]:
    """Stream the texts of `splits`, and the numbers of their labels, into `whole.texts` and `cut.texts`.

    Args:
        source: The source.
        splits: What is read.
        name: The split whose texts are in `cut.texts`.
        folder: The folder of the files.
        counts: The files to write, each with its number of texts, which is added up.

    Returns:
        The numbers by label.
    """
    numbers: dict[RowLabel, int] = {}
    waiting: dict[str, tuple[list[int], list[str]]] = {part: ([], []) for part in counts}
    with contextlib.ExitStack() as stack:
        writers = {part: stack.enter_context(ReviewWriter(folder / f"{part}.texts", TEXTS)) for part in counts}
        progress = stack.enter_context(Progress("read", source.expected_rows(splits)))
        for row in stack.enter_context(closing_rows(source.rows(splits))):
            number = numbers.setdefault(row.label, len(numbers))
            for part in counts:
                if part == "cut" and row.split != name:
                    continue
                labels, texts = waiting[part]
                labels.append(number)
                texts.append(row.text)
                counts[part] += 1
                if len(texts) == ROWS_PER_BATCH:
                    writers[part].write(labels, texts)
                    waiting[part] = ([], [])
            progress.advance(1)
        for part, (labels, texts) in waiting.items():
            if texts:
                writers[part].write(labels, texts)
    return numbers


def _class_ids(labels: dict[RowLabel, int], classes: Sequence[str], data: DataConfig) -> pa.Array:
    """Return the labels' class ids by their numbers."""
    known = ClassIds(classes)
    rows = [known.row(label) for label in labels]
    if None in rows:  # of several label columns, whose names are the classes
        raise InputError(
            f"{typed_data(data.path)}: its label columns are {', '.join(data.label_columns())}, and the run's classes "
            f"{listed_classes(known.names)}; name them alike."
        )
    return pa.array(rows, label_type(len(classes), many=data.many_labels()))
