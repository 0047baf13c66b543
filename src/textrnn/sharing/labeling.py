"""Labels for a whole table, in flat memory and at the rate of an evaluation."""

import contextlib
from array import array
from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path

import torch

from textrnn.base.console import LOGGER, Progress
from textrnn.base.errors import InputError
from textrnn.base.process import in_advance
from textrnn.data.table_writer import table_writer
from textrnn.data.text_table import TEXTS_AT_A_TIME, Rows, WholeTable
from textrnn.data.tokenizer import encoding_threads
from textrnn.sharing.trained_model import TrainedModel

BATCH_SIZE = 256
"""Texts that the network reads at a time, as in `evaluate.py`."""
WINDOW = 16 * BATCH_SIZE
"""Texts that are sorted by length together; as many more are read and encoded meanwhile."""
DIGITS = 6
"""Of a probability."""
PREDICTED = "predicted_"


class Labeled:
    """What was done: the number of `texts`, and the rows, from 1, of those that are `empty`."""

    def __init__(self) -> None:
        self.texts = 0
        self.empty: list[int] = []


def label_table(model: TrainedModel, table: WholeTable, output: Path, *, each_class: bool) -> Labeled:
    """Write a table with the columns of its predictions.

    Args:
        model: The model.
        table: The table.
        output: The file to write, from `table_writer.check_output`.
        each_class: Whether there is also a column with the probability of each class.

    Raises:
        InputError: the new columns have names that are taken, a row can't be read or written, or the run has diverged.
    """
    names = new_columns(model, table.columns, each_class=each_class)
    kinds = dict.fromkeys(names, float) | {names[0]: list if model.many_labels else str}
    done = Labeled()
    with (
        table_writer(output, table, kinds) as writer,
        Progress("labeled", table.total, "texts", rate=True) as progress,
        contextlib.closing(_windows(model, table)) as windows,
    ):
        for parts, encoded in windows:
            probabilities = model.probabilities_of(encoded, batch_size=BATCH_SIZE, advance=progress.advance)
            writer.write(parts, dict(zip(names, _values(model, probabilities, each_class=each_class), strict=True)))
            for part in parts:
                done.empty += [done.texts + row for row, text in enumerate(part.texts, 1) if not text.strip()]
                done.texts += len(part.texts)
    return done


def new_columns(model: TrainedModel, columns: Sequence[str], *, each_class: bool) -> list[str]:
    """Return the names of the new columns: label, probability, and of each class.

    If the table has a column of such a name, as a table with true labels has, all begin with `PREDICTED`.

    Raises:
        InputError: the table has such columns too.
    """
    names = ["labels" if model.many_labels else "label", "probability"]
    if each_class:
        names += [f"probability_{' '.join(name.split())}" for name in model.classes]
    if not {*names} & {*columns}:
        return names
    names = [f"{PREDICTED}{name}" for name in names]
    if taken := [name for name in names if name in columns]:
        raise InputError(f"the table has a column {taken[0]!r}, as the new one is to be called; rename it.")
    LOGGER.info(f"new columns: {', '.join(names)}")
    return names


def _windows(model: TrainedModel, table: WholeTable) -> Generator[tuple[list[Rows], list["array[int]"]]]:
    """Yield the rows of a window and the ids of their texts; threads encode the next window meanwhile."""

    def encode(rows: Rows) -> tuple[Rows, list["array[int]"]]:
        return rows, [array("i", ids) for ids in model.encode(rows.texts)]

    parts = WINDOW // TEXTS_AT_A_TIME
    with (
        encoding_threads(model.tokenizer) as threads,
        contextlib.closing(in_advance(encode, table.rows, ahead=parts, threads=threads)) as encoded,
    ):
        while window := list(islice(encoded, parts)):
            yield [rows for rows, _ in window], [ids for _, of_rows in window for ids in of_rows]


def _values(model: TrainedModel, probabilities: torch.Tensor, *, each_class: bool) -> list[Sequence[object]]:
    """Return the values of `new_columns`. With several labels a text, `probability` is that of all answers together."""
    named = [model.labels(row) for row in probabilities.tolist()]
    labels: list[object]
    if model.many_labels:
        told = torch.where(probabilities > model.threshold, probabilities, 1 - probabilities).prod(dim=1)
        labels = [list(names) for names in named]
    else:
        labels = [name for (name,) in named]
        told = probabilities[range(len(labels)), [model.classes.index(name) for (name,) in named]]
    columns = [told, *(probabilities.unbind(dim=1) if each_class else ())]
    return [labels, *([round(value, DIGITS) for value in column.tolist()] for column in columns)]
