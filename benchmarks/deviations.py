"""Deviations of the tutorials' originals and their cost: accuracies on the test reviews, over seeds.

Five deviations, each in the original's way and in the correct one: the state after the padding, dropout and
initialization, choosing on the test set, the order of labels in a stream, the mean of batch means. The test set is
used on purpose; where the correct way has a choice, the validation set decides.
"""

from collections.abc import Callable

import torch

import deviations_choosing
import deviations_means
import deviations_padding
import deviations_stream
from deviations_data import FULL, QUICK, Sizes, in_order, percent, shuffled, table
from deviations_model import Recipe, Run, Training, fit
from report import Claim, Report
from reviews import batches, data_config, open_store
from settings import Settings
from textrnn.data.store import Store

VOCAB_SIZE = 10_000
RIGHT, ORIGINAL = "Keras' dropout and initialization", "torch's dropout and initialization"
STEADY = "torch's dropout, Keras' initialization"
"""Learns in its first epoch whatever the seed, which the other three do not."""
RECIPES = {
    RIGHT: Recipe(),
    STEADY: Recipe(dropout="between"),
    "Keras' dropout, torch's initialization": Recipe(initialization="torch"),
    ORIGINAL: Recipe(dropout="between", initialization="torch"),
}


def run(settings: Settings, report: Report) -> None:
    """Train and fill in the report; a seed is a repeat."""
    torch.set_num_threads(1)  # an epoch is thousands of operations, most too small to be shared
    sizes = QUICK if settings.quick else FULL
    seeds = range(min(settings.repeats, sizes.seeds))
    report.settings["repeats"] = len(seeds)
    store = open_store(data_config(settings.data_path, quick=settings.quick, vocab_size=VOCAB_SIZE))
    for part in parts(sizes):
        part(store, sizes, seeds, report)
        report.keep(settings.output)


def parts(sizes: Sizes) -> list[Callable[[Store, Sizes, range, Report], None]]:
    """Return the parts of the measurement, which are independent."""

    def padding(cell: str) -> Callable[[Store, Sizes, range, Report], None]:
        return lambda *arguments: deviations_padding.measure(cell, *arguments)

    return [*map(padding, sizes.cells), last_tokens]


def last_tokens(store: Store, sizes: Sizes, seeds: range, report: Report) -> None:
    """Deviations 2 to 5, of the Keras tutorial's system: two plain layers on the last tokens of a review."""
    runs = {name: [_keras_system(recipe, store, sizes, seed) for seed in seeds] for name, recipe in RECIPES.items()}
    by_epoch = table(report, "2 dropout and initialization: accuracy on the test reviews, by epoch", "%")
    for name, of_seeds in runs.items():
        for each in of_seeds:
            for epoch, correct in enumerate(each.test, 1):
                by_epoch.append(name, f"epoch {epoch}", percent(correct))
            by_epoch.append(name, "chosen on validation", percent(each.test[each.best_epoch]))
    for name in list(RECIPES)[1:]:
        values = (by_epoch.cells[way]["chosen on validation"] for way in (RIGHT, name))
        lost = [right - wrong for right, wrong in zip(*values, strict=True)]
        report.claims.append(Claim(name=f"2 {name}: accuracy lost to Keras' of both", values=lost, unit="points"))
    deviations_choosing.measure(runs, store.split("validation").labels, report)
    deviations_stream.measure(RECIPES[STEADY], runs[STEADY], store, sizes, seeds, report)
    deviations_means.measure(runs[RIGHT], sizes.batch_size, report)


def _keras_system(recipe: Recipe, store: Store, sizes: Sizes, seed: int) -> Run:
    train = store.split("train")
    training = Training(recipe, store.vocab_size, seed=seed, hidden=sizes.hidden)

    def epoch(number: int) -> list[float]:
        plan = shuffled(len(train), sizes.batch_size, seed=seed, epoch=number)
        return training.epoch(batches(train, plan, sizes.tokens))

    looked_at = ("validation", "test") if recipe != RECIPES[RIGHT] else ("validation", "test", "train")
    return fit(training, epoch, sizes.epochs, {name: in_order(store.split(name), sizes.tokens) for name in looked_at})
