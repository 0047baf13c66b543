"""Deviation 1: the state after the padding instead of the one after the review's last token."""

import numpy as np

from deviations_data import Sizes, bucketed, in_order, percent, shuffled, table
from deviations_model import Recipe, Training
from report import Claim, Report
from reviews import batches
from textrnn.data.store import Store

REVIEW, RANDOM, BUCKETS = (
    "after the last token",
    "after the padding, random batches",
    "after the padding, batches of similar length",
)
COUNTS = (0, 5, 10, 20, 50, 100, 200, 400)
"""Padding tokens behind a review after which a model that was trained right is read."""


def measure(cell: str, store: Store, sizes: Sizes, seeds: range, report: Report) -> None:
    """Train a layer in each way and fill in the report; batches of similar length for the plain layer only."""
    tables = {
        name: table(report, f"1 padding: {title}", "%")
        for name, title in {
            "as trained": "accuracy on the test reviews",
            "alone": "the same models, each test review without padding",
            "after": "trained and read after the last token, then read so many padding tokens later",
        }.items()
    }
    for way in (REVIEW, RANDOM, BUCKETS) if cell == "rnn" else (REVIEW, RANDOM):
        for seed in seeds:
            training = _trained(cell, way, store, sizes, seed)
            for name, value in _accuracies(training, way, store, sizes, seed).items():
                if name in tables:
                    tables[name].append(way, cell, value)
                else:
                    tables["after"].append(cell, name, value)
    ways = tables["as trained"].cells
    lost = [right - wrong for right, wrong in zip(ways[REVIEW][cell], ways[RANDOM][cell], strict=True)]
    name = f"1 padding, {cell}: accuracy lost by reading after the padding of random batches"
    report.claims.append(Claim(name=name, values=lost, unit="points"))


def _trained(cell: str, way: str, store: Store, sizes: Sizes, seed: int) -> Training:
    train = store.split("train")
    lengths = np.minimum(train.lengths, sizes.whole_tokens)
    last = "review" if way == REVIEW else "padding"
    recipe = Recipe(cell=cell, layers=1, dropout="none", initialization="torch", last=last)
    training = Training(recipe, store.vocab_size, seed=seed, hidden=sizes.hidden)
    for epoch in range(sizes.whole_epochs):
        if way == RANDOM:
            plan = shuffled(len(train), sizes.whole_batch_size, seed=seed, epoch=epoch)
        else:  # for the state after the last token the batches' lengths decide only the time that it takes
            plan = bucketed(lengths, sizes.whole_batch_size, seed=seed, epoch=epoch)
        training.epoch(batches(train, plan, sizes.whole_tokens))
    return training


def _accuracies(training: Training, way: str, store: Store, sizes: Sizes, seed: int) -> dict[str, float]:
    test, tokens = store.split("test"), sizes.whole_tokens
    similar = in_order(test, tokens, sizes.whole_batch_size)
    if way == REVIEW:
        found = training.correct_after_padding(similar, COUNTS)
        after = {str(count): percent(correct) for count, correct in zip(COUNTS, found, strict=True)}
        return {"as trained": after["0"], **after}
    alone = percent(training.correct_after_padding(similar, (0,))[0])
    if way == BUCKETS:
        return {"as trained": percent(training.correct(similar)), "alone": alone}
    plan = shuffled(len(test), sizes.whole_batch_size, seed=seed, epoch=0)
    return {"as trained": percent(training.correct(batches(test, plan, tokens))), "alone": alone}
