"""Deviation 5: means of batches' accuracies, of whole batches only, of a model that changes; and single batches."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deviations_data import percent, table
from deviations_model import Correct, Run, binomial_sd
from report import Claim, Report

SHUFFLES = 200


def measure(runs: Sequence[Run], batch_size: int, report: Report) -> None:
    """Average the runs' batches as the tutorials do and fill in the report."""
    _of_batches([run.test[-1] for run in runs], report)
    epochs = table(report, "5 means: an epoch's accuracy on the training reviews", "%")
    for run in runs:
        for epoch, (steps, after, validation) in enumerate(zip(run.steps, run.train, run.validation, strict=True), 1):
            column = f"epoch {epoch}"
            epochs.append("mean of the steps, with dropout, while it learns", column, 100 * float(np.mean(steps)))
            epochs.append("after the epoch, without dropout, over reviews", column, percent(after))
            epochs.append("validation", column, percent(validation))
    last = epochs.columns[-1]
    rows = list(epochs.cells.values())
    less = [after - running for after, running in zip(rows[1][last], rows[0][last], strict=True)]
    name = f"5 means, {last}: accuracy after the epoch over the mean of its steps"
    report.claims.append(Claim(name=name, values=less, unit="points"))
    noise = table(report, "5 means: standard deviation of one batch's accuracy, in the last epoch", "points")
    for run in runs:
        whole = np.array(run.steps[-1][:-1])
        # Of neighboring steps' difference, over sqrt(2), because what the model learns in the epoch is no noise.
        noise.append(f"batches of {batch_size}, in training", "measured", 100 * float(np.diff(whole).std() / 2**0.5))
        noise.append(
            f"batches of {batch_size}, in training", "binomial", 100 * binomial_sd(float(whole.mean()), batch_size)
        )
    for size in (32, 64, 128, 512):
        for run in (run for run in runs if len(run.test[-1]) > 2 * size):
            means = batch_means(np.random.default_rng(0).permutation(run.test[-1]), size)[:-1]
            noise.append(f"batches of {size}, the trained model on test", "measured", 100 * float(means.std()))
            binomial = binomial_sd(float(run.test[-1].mean()), size)
            noise.append(f"batches of {size}, the trained model on test", "binomial", 100 * binomial)
    report.curves["5 steps"] = [value for steps in runs[0].steps for value in steps]
    for name in ("train", "validation", "test"):
        report.curves[f"5 {name}"] = [float(correct.mean()) for correct in getattr(runs[0], name)]


def _of_batches(tests: Sequence[Correct], report: Report) -> None:
    """Measure the effect of short last batches: all test reviews, or as many as other sets have, in random orders."""
    largest = table(report, "5 means: how far the mean of batch means is from the accuracy over reviews", "points")
    generator = np.random.default_rng(0)
    counts = [count for count in (25_000, 2_506, 1_025, 130, 70) if count <= len(tests[0])]
    for size in (64, 128):
        for count in (count for count in counts if count > size):
            away: dict[str, list[float]] = {}
            for shuffle in range(SHUFFLES):
                reviews = tests[shuffle % len(tests)][generator.permutation(len(tests[0]))[:count]]
                batches, whole = batch_means(reviews, size), count // size * size
                away.setdefault("mean of batch means", []).append(abs(batches.mean() - reviews.mean()))
                away.setdefault("drop_remainder=True", []).append(abs(reviews[:whole].mean() - reviews.mean()))
            for way, distances in away.items():
                row = f"{count:,} reviews in batches of {size}, the last of {count % size or size}"
                largest.add(row, f"{way}, mean", [100 * float(np.mean(distances))])
                largest.add(row, f"{way}, largest of {SHUFFLES} orders", [100 * float(np.max(distances))])


def batch_means(correct: Correct, size: int) -> npt.NDArray[np.float64]:
    """The accuracy of each batch, the last of which may be shorter."""
    return np.array([correct[start : start + size].mean() for start in range(0, len(correct), size)])
