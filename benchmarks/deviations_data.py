"""The batches that `deviations.py` compares: shuffled, bucketed, or read through a stream's shuffle buffer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from report import Report, Table
from reviews import batches
from textrnn.data.batches import Batch, plan_epoch
from textrnn.data.review_file import Split

Rows = npt.NDArray[np.int64]
Plan = list[Rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Amount of training."""

    seeds: int = 3
    hidden: int = 64
    tokens: int = 80
    """Of a review, its last, in the Keras tutorial's system."""
    batch_size: int = 128
    epochs: int = 4
    stream_epochs: int = 2
    buffer_size: int = 1000
    """Reviews in a stream's shuffle buffer, and in a piece of the file."""
    whole_tokens: int = 400
    """Of a review, its last, in the PyTorch tutorials' systems; these cut nothing, which takes too long here."""
    whole_batch_size: int = 64
    whole_epochs: int = 2
    cells: tuple[str, ...] = ("rnn", "lstm")


FULL = Sizes()
QUICK = Sizes(
    seeds=1,
    hidden=8,
    tokens=20,
    batch_size=32,
    epochs=2,
    stream_epochs=1,
    buffer_size=25,
    whole_tokens=40,
    whole_batch_size=32,
    whole_epochs=1,
)


def shuffled(reviews: int, batch_size: int, *, seed: int, epoch: int) -> Plan:
    """Batches of a true shuffle."""
    return batched(np.random.default_rng([seed, epoch]).permutation(reviews), batch_size)


def bucketed(lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, epoch: int) -> Plan:
    """Batches of similar length in random order."""
    return plan_epoch(lengths, batch_size=batch_size, seed=seed, epoch=epoch)


def buffered(rows: Iterable[int], buffer_size: int, generator: np.random.Generator) -> Iterator[int]:
    """A stream through a shuffle buffer: a random one of the buffer leaves it for each that comes in.

    As with tf.data's `shuffle(buffer_size)`. A stream of `datasets` 5.2 shuffles a full buffer and lets half of it
    go, which mixes a little less.
    """
    buffer: list[int] = []
    for row in rows:
        if len(buffer) < buffer_size:
            buffer.append(row)
            continue
        place = int(generator.integers(buffer_size))
        yield buffer[place]
        buffer[place] = row
    yield from generator.permutation(buffer).tolist()


def pieces_in_turn(reviews: int, piece: int) -> Rows:
    """Row numbers of a file that is cut into pieces which are read in turn, a row of each."""
    pieces = -(-reviews // piece)
    rows = np.arange(pieces * piece).reshape(pieces, piece).T.ravel()
    return rows[rows < reviews]


def batched(rows: Rows, batch_size: int) -> Plan:
    """The rows in this order."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def in_order(split: Split, max_length: int, batch_size: int = 128) -> list[Batch]:
    """All reviews once, in batches of similar length."""
    lengths = np.minimum(split.lengths, max_length)
    plan = plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=0, shuffle=False)
    return list(batches(split, plan, max_length))


def percent(correct: npt.NDArray[np.bool_]) -> float:
    """Return the share of true values, in percent."""
    return 100.0 * float(correct.mean())


def table(report: Report, title: str, unit: str) -> Table:
    """Return the report's table of that title, a new one if it has none."""
    for found in report.tables:
        if found.title == title:
            return found
    made = Table(title=title, unit=unit, statistic="mean ± sd")
    report.tables.append(made)
    return made
