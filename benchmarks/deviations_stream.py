"""Deviation 4: a file sorted by label goes through a shuffle buffer that is smaller than a class."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from deviations_data import Plan, Rows, Sizes, batched, buffered, in_order, percent, pieces_in_turn, table
from deviations_model import Recipe, Run, Training, fit
from report import Claim, Report
from reviews import batches
from textrnn.data.store import Store

TRUE = "true shuffle"
BUFFER_OF_SORTED, LARGER = "sorted file, buffer", "sorted file, buffer ten times larger"


def measure(
    recipe: Recipe, shuffled_runs: Sequence[Run], store: Store, sizes: Sizes, seeds: range, report: Report
) -> None:
    """Show each way's batches, train from two of them and fill in the report; `shuffled_runs` are the third."""
    ways = _ways(store.split("train").labels, sizes)
    _labels(ways, store, sizes, report)
    accuracy = table(report, "4 stream: accuracy on the test reviews, by epoch", "%")
    for way, rows in ways.items():
        if way == LARGER:
            continue
        runs = shuffled_runs if way == TRUE else [_trained(recipe, rows, store, sizes, seed) for seed in seeds]
        for run in runs:
            for epoch in range(sizes.stream_epochs):
                accuracy.append(way, f"epoch {epoch + 1}", percent(run.test[epoch]))
    first = accuracy.cells
    for column in accuracy.columns:
        pairs = zip(first[TRUE][column], first[BUFFER_OF_SORTED][column], strict=True)
        name = f"4 stream, {column}: accuracy lost by the sorted file through the buffer"
        report.claims.append(Claim(name=name, values=[right - wrong for right, wrong in pairs], unit="points"))


def _ways(labels: npt.NDArray[np.int16], sizes: Sizes) -> dict[str, Callable[[np.random.Generator], Rows]]:
    """Orders of an epoch's rows."""
    in_file = np.argsort(labels, kind="stable")  # IMDB's own order
    in_turn = in_file[pieces_in_turn(len(labels), sizes.buffer_size)]

    def through(rows: Rows, buffer_size: int) -> Callable[[np.random.Generator], Rows]:
        return lambda generator: np.fromiter(buffered(rows.tolist(), buffer_size, generator), dtype=np.int64)

    return {
        TRUE: lambda generator: generator.permutation(len(labels)),
        "sorted file, pieces in turn, buffer": through(in_turn, sizes.buffer_size),
        BUFFER_OF_SORTED: through(in_file, sizes.buffer_size),
        LARGER: through(in_file, 10 * sizes.buffer_size),
    }


def _plan(rows: Callable[[np.random.Generator], Rows], sizes: Sizes, *, seed: int, epoch: int) -> Plan:
    return batched(rows(np.random.default_rng([seed, epoch])), sizes.batch_size)


def _labels(ways: dict[str, Callable[[np.random.Generator], Rows]], store: Store, sizes: Sizes, report: Report) -> None:
    labels = store.split("train").labels
    mixed = table(report, "4 stream: batches of the first epoch", "%")
    for way, rows in ways.items():
        shares = np.array([labels[batch].mean() for batch in _plan(rows, sizes, seed=0, epoch=0)])
        mixed.add(way, "of one class", [percent((shares == 0) | (shares == 1))])
        mixed.add(way, "mean distance of the positives' share from half", [100 * float(np.abs(shares - 0.5).mean())])
        report.curves[f"4 {way}"] = shares.tolist()
    first = np.sort(labels)[: len(labels) // 10]
    mixed.add("first 10 % of the file as validation", "of one class", [100.0 * float(len(set(first.tolist())) == 1)])


def _trained(recipe: Recipe, rows: Callable[[np.random.Generator], Rows], store: Store, sizes: Sizes, seed: int) -> Run:
    train = store.split("train")
    training = Training(recipe, store.vocab_size, seed=seed, hidden=sizes.hidden)

    def epoch(number: int) -> list[float]:
        return training.epoch(batches(train, _plan(rows, sizes, seed=seed, epoch=number), sizes.tokens))

    return fit(training, epoch, sizes.stream_epochs, {"test": in_order(store.split("test"), sizes.tokens)})
