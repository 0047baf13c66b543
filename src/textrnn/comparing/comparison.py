"""Comparisons of settings with one of them, paired by seed and review, and what may be concluded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from textrnn.comparing.predictions import check_same_reviews
from textrnn.comparing.settings import Setting, pair
from textrnn.comparing.statistics import (
    Estimate,
    Overlap,
    difference,
    holm,
    mcnemar,
    over_reviews,
    overlap,
    smallest_difference,
)

LEVEL = 0.05
"""A difference is shown if its corrected p is below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A setting compared with another one: differences are the setting's accuracy minus that of the other."""

    setting: Setting
    reference: Setting
    seeds: tuple[list[int], list[int]]
    """Seeds of both, in pairs."""
    difference: Estimate
    """With several pairs over seeds and reviews, with one over reviews."""
    over_reviews: Estimate
    """For these models, whatever the seeds: a bootstrap."""
    mcnemar: list[float]
    """p of McNemar's exact test of each pair of models."""
    corrected: float
    """The comparison's p, corrected for the number of comparisons."""
    smallest: float
    """The smallest difference that these data could show."""
    overlap: Overlap
    reviews: int

    @property
    def p(self) -> float:
        """Of one pair of models McNemar's; of several that of the interval, as seeds vary too."""
        return self.mcnemar[0] if self.pairs == 1 else self.difference.p

    @property
    def pairs(self) -> int:
        """Number of pairs of models."""
        return len(self.seeds[0])

    @property
    def is_shown(self) -> bool:
        """Whether the data show which setting is better."""
        return self.corrected < LEVEL

    def right(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which reviews the setting and the reference have right, (seeds, reviews) each."""
        ours, theirs = self.seeds
        return self.setting.right(ours), self.reference.right(theirs)


def compare(settings: Sequence[Setting], reference: Setting) -> list[Comparison]:
    """Return the comparison of each setting but the reference with it, p corrected by Holm's method.

    Raises:
        InputError: not all predictions are of the same reviews.
    """
    others = [setting for setting in settings if setting is not reference]
    check_same_reviews([run for setting in (reference, *others) for run in setting.by_seed.values()])
    compared = [_compare(setting, reference, len(others)) for setting in others]
    corrected = holm([comparison.p for comparison in compared])
    return [replace(comparison, corrected=p) for comparison, p in zip(compared, corrected, strict=True)]


def _compare(setting: Setting, reference: Setting, comparisons: int) -> Comparison:
    ours, theirs = pair(setting, reference)
    right, other = setting.right(ours), reference.right(theirs)
    differences = right.astype(np.int8) - other.astype(np.int8)
    found, reviews = difference(differences), right.shape[1]
    return Comparison(
        setting=setting,
        reference=reference,
        seeds=(ours, theirs),
        difference=found,
        over_reviews=over_reviews(differences),
        mcnemar=[mcnemar(int((row > 0).sum()), int((row < 0).sum())) for row in differences],
        corrected=1.0,
        smallest=smallest_difference(found, reviews, comparisons=comparisons),
        overlap=overlap(right, other),
        reviews=reviews,
    )


def conclusion(comparison: Comparison, *, split: str, comparisons: int) -> str:
    """Return a sentence that says what may be concluded."""
    setting, reference, found = comparison.setting.name, comparison.reference.name, comparison.difference
    if found.value < 0:
        better, worse, low, high = reference, setting, -found.high, -found.low
    else:
        better, worse, low, high = setting, reference, found.low, found.high
    figures = (
        f"{100 * abs(found.value):+.2f} points ({100 * low:.2f} to {100 * high:.2f}), {shown_p(comparison.corrected)}"
    )
    if comparisons > 1:
        figures += f" by Holm's method for {comparisons} comparisons"
    reviews = f"these {comparison.reviews:,} {split} reviews"
    models = "one model of each" if comparison.pairs == 1 else f"{comparison.pairs} seeds"
    if comparison.is_shown:
        sentence = f"{better} is better than {worse} on {reviews}, {models}: {figures}."
    else:
        sentence = (
            f"The data don't show which of {setting} and {reference} is better ({reviews}, {models}): "
            f"{better} {figures}; they would show a difference of {100 * comparison.smallest:.2f} points or more."
        )
    if comparison.pairs == 1:
        sentence += " This is about these two models: another seed makes others."
    return sentence


def shown_p(p: float) -> str:
    """Return p with two digits."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The difference on some of the reviews."""

    name: str
    reviews: int
    accuracy: float
    of_reference: float
    difference: Estimate


def by_length(comparison: Comparison, bins: int = 5) -> list[Group]:
    """Return the difference by the reviews' length, shortest first, in up to `bins` groups of about as many reviews.

    Lengths are in tokens of the reference's first run, of whole reviews.
    """
    lengths = comparison.reference.by_seed[comparison.seeds[1][0]].lengths
    bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    groups = np.searchsorted(bounds, lengths)
    return list(
        _groups(
            comparison,
            groups,
            [
                f"{lengths[groups == number].min():,} to {lengths[groups == number].max():,} tokens"
                if (groups == number).any()
                else ""
                for number in range(len(bounds) + 1)
            ],
        )
    )


def by_class(comparison: Comparison) -> list[Group]:
    """Return the difference by the reviews' class, in the order of the classes."""
    run = comparison.reference.by_seed[comparison.seeds[1][0]]
    return list(_groups(comparison, *run.label_sets()))


def _groups(comparison: Comparison, of_review: npt.NDArray[np.int64], names: Sequence[str]) -> Iterator[Group]:
    """Yield the groups that have at least two reviews."""
    right, other = comparison.right()
    for number, name in enumerate(names):
        chosen = of_review == number
        if chosen.sum() > 1:
            ours, theirs = right[:, chosen], other[:, chosen]
            yield Group(
                name=name,
                reviews=int(chosen.sum()),
                accuracy=float(ours.mean()),
                of_reference=float(theirs.mean()),
                difference=difference(ours.astype(np.int8) - theirs.astype(np.int8)),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """A review that one of two settings has right more often than the other."""

    index: int
    """Row in the split."""
    label: str
    of_label: float
    """The setting's probability of the review's class, the mean over the seeds."""
    of_reference: float


def disagreements(comparison: Comparison, most: int) -> list[Disagreement]:
    """Return up to `most` disagreements, those first whose probabilities are the farthest apart."""
    right, other = comparison.right()
    run = comparison.reference.by_seed[comparison.seeds[1][0]]
    ours, theirs = comparison.setting.of_label(comparison.seeds[0]), comparison.reference.of_label(comparison.seeds[1])
    labels, names = run.label_sets()
    places = np.flatnonzero(right.sum(axis=0) != other.sum(axis=0))
    places = places[np.argsort(-np.abs(ours - theirs)[places], kind="stable")[:most]]
    return [
        Disagreement(
            index=int(run.indices[place]),
            label=names[labels[place]],
            of_label=float(ours[place]),
            of_reference=float(theirs[place]),
        )
        for place in places
    ]
