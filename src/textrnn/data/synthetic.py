"""Generated movie reviews whose label depends on the order of the words, not on their counts.

Each review has the writer's verdict on the film and one opposite opinion: another person's, or an earlier one of the
writer. Both are drawn from the same distribution of opinion words, negators and concessions; only the holder differs.
So the expected count of every word is the same for both labels, and a model must find the writer's verdict and apply
its negation. The rest are plain sentences about the film and further opinions (of others, on other films, on single
aspects) of random polarity.

With more than two classes the class is the one aspect of the film, such as its music, that the writer praises. Each
aspect has one opinion: the writer blames some, and other people praise or blame the rest. So again each word is as
frequent in every class.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import count as count_from
from itertools import islice
from math import gcd
from random import Random
from typing import TypeVar

from textrnn.base.errors import InputError
from textrnn.config.schema import ALL_SPLITS, LABELS, UNLABELLED, DataConfig
from textrnn.data.sources import HASHED_SHARE, Part, Row, expected_rows, split_shares, stream_rows
from textrnn.data.synthetic_words import FACTS, POOLS, PREDICATES, SENTENCES

GENERATOR_VERSION = 1
"""Part of the token store's fingerprint; increase it whenever the text of any review changes."""

MIN_WORDS, MAX_WORDS = 20, 400
_OTHER_OPINIONS = ((False, "other"), (False, "writer"), (True, "other"))
"""Opinions of more than two classes' other aspects: praise or blame, and whose."""
_ASPECTS = ("music", "script", "acting", "ending", "dialogue", "photography", "editing", "casting")

Draw = Callable[[], float]
Template = tuple[str, tuple[str | tuple[str, ...], ...]]


def _template(sentence: str) -> Template:
    """Parse a sentence into a %-format and its fillings: pools to draw from, or names of facts of the review."""
    parts = re.split(r"\{(\w+)\}", sentence)
    return "%s".join(parts[::2]), tuple(name if name in FACTS else POOLS.get(name, name) for name in parts[1::2])


_TEMPLATES = {kind: tuple(_template(sentence) for sentence in sentences) for kind, sentences in SENTENCES.items()}
# The opposite opinion is usually another person's; sometimes the writer disagrees with it explicitly.
_TEMPLATES |= {f"rejected{kind[5:]}": _TEMPLATES[kind] for kind in SENTENCES if kind.startswith("other_")}
_TEMPLATES["rejected_long"] += _TEMPLATES["disagreement"]
# Step sizes that visit every plain sentence once before any is repeated.
_STRIDES = tuple(step for step in range(1, len(_TEMPLATES["plain"])) if gcd(step, len(_TEMPLATES["plain"])) == 1)
_Choice = TypeVar("_Choice")


def _pick(draw: Draw, choices: Sequence[_Choice]) -> _Choice:
    return choices[int(draw() * len(choices))]


class _Reviewer:
    """The facts and sentences of one review. All random numbers are from `draw`, uniform on [0, 1)."""

    def __init__(self, draw: Draw, difficulty: float) -> None:
        self.draw = draw
        self.negated_share = 0.1 + 0.35 * difficulty
        self.long_share = 0.1 + 0.8 * difficulty
        self.conceding_share = 0.4 * difficulty
        self.opinionated_share = 0.1 + 0.5 * difficulty
        self.facts = {fact: _pick(draw, POOLS[pool]) for fact, pool in FACTS.items()}
        self.plain = int(draw() * len(_TEMPLATES["plain"]))
        self.stride = _pick(draw, _STRIDES)

    def fill(self, kind: str) -> str:
        """Return a sentence of a kind with its gaps filled; no plain one is repeated before all have been used."""
        draw, facts = self.draw, self.facts
        templates = _TEMPLATES[kind]
        if kind == "plain":
            self.plain = (self.plain + self.stride) % len(templates)
            pattern, slots = templates[self.plain]
        else:
            pattern, slots = _pick(draw, templates)
        return pattern % tuple([facts[slot] if isinstance(slot, str) else _pick(draw, slot) for slot in slots])

    def view(self, positive: bool) -> str:
        """Return words for good (`positive`) or bad, perhaps as the negation of the opposite."""
        negated = self.draw() < self.negated_share
        return _pick(self.draw, PREDICATES[positive != negated, negated])

    def opinion(self, positive: bool, holder: str, aspect: str | None = None) -> str:
        """Return a holder's opinion of the film or of an aspect; the writer's and the others' differ in frames only."""
        draw, facts = self.draw, self.facts
        frames = f"{holder}_long" if aspect or draw() < self.long_share else f"{holder}_short"
        # A third of the negations are in the frame: "I would not say that the film is bad".
        if draw() < self.negated_share / 3:
            frames += "_negated"
            facts["view"] = _pick(draw, PREDICATES[not positive, False])
        else:
            facts["view"] = self.view(positive)
        subject = f"the {aspect}" if aspect else _pick(draw, POOLS["subject"])
        facts["claim"] = f"{subject} {facts['tense']} {facts['view']}"
        text = self.fill(frames)
        if not aspect and draw() < self.conceding_share:
            facts["reverse"] = self.view(not positive)
            text = f"{self.fill('concession')} {text}"
        return f"{text}."

    def filler(self) -> str:
        """Return a sentence that is independent of the label: plain, or an opinion of random polarity."""
        if self.draw() >= self.opinionated_share:
            return self.fill("plain")
        positive = self.draw() < 0.5
        kind = self.draw()
        if kind < 0.4:
            return self.opinion(positive, "other")
        self.facts["view"], self.facts["reverse"] = self.view(positive), self.view(not positive)
        return self.fill("aspect_view" if kind < 0.8 else "film_view")


def _hardness(draw: Draw, difficulty: float) -> float:
    """Return how hard a review is: at difficulty 0 none is, at 1 all are; a network learns the easy ones first."""
    hardness: float = draw() ** (2 * (1 - difficulty) / difficulty) if difficulty else 0.0
    return hardness


def _words(draw: Draw, hardness: float) -> float:
    """Return a review's number of words: the mean of two draws, with an exponent, so short reviews are frequent."""
    words: float = MIN_WORDS + (MAX_WORDS - MIN_WORDS) * ((draw() + draw()) / 2) ** (6 - 5 * hardness)
    return words


def _shuffled(draw: Draw, items: Iterable[_Choice]) -> list[_Choice]:
    """Return the items in a random order, each of them equally likely."""
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = int(draw() * (last + 1))
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled


def _compose_of_aspects(draw: Draw, difficulty: float, classes: int) -> tuple[str, int]:
    """Compose a review whose class is the one of `classes` aspects that the writer praises."""
    aspects = _shuffled(draw, range(classes))
    hardness = _hardness(draw, difficulty)
    reviewer = _Reviewer(draw, hardness)
    opening = reviewer.fill("opening")
    names = class_names(classes)
    sentences = []
    for place, aspect in enumerate(aspects):  # the writer's praise, then the three other opinions in turn
        praise, holder = (True, "writer") if not place else _OTHER_OPINIONS[place % len(_OTHER_OPINIONS)]
        sentences.append(reviewer.opinion(praise, holder, names[aspect]))
    words, target = len(" ".join([opening, *sentences]).split()), _words(draw, hardness)
    while words < target:
        sentence = reviewer.fill("film_view" if draw() < reviewer.opinionated_share / 3 else "plain")
        words += len(sentence.split())
        if words > MAX_WORDS:
            break
        sentences.append(sentence)
    return " ".join([text[0].upper() + text[1:] for text in (opening, *_shuffled(draw, sentences))]), aspects[0]


def _compose(draw: Draw, difficulty: float) -> tuple[str, int]:
    label = draw() < 0.5
    hardness = _hardness(draw, difficulty)
    reviewer = _Reviewer(draw, hardness)
    verdict = reviewer.opinion(label, "writer")
    rejected = reviewer.opinion(not label, "rejected")
    words = len(verdict.split()) + len(rejected.split())
    target = _words(draw, hardness)
    late_share = 0.5 * hardness + draw() * (0.1 + 0.4 * hardness)
    room_after = late_share * (target - words)
    before: list[str] = []
    after: list[str] = []
    while words < target:
        sentence = reviewer.filler() if before else reviewer.fill("opening")
        length = len(sentence.split())
        if words + length > MAX_WORDS:
            break
        words += length
        if before and length <= room_after:
            room_after -= length
            after.append(sentence)
        else:
            before.append(sentence)
    if draw() < late_share:
        after.insert(int(draw() * (len(after) + 1)), rejected)
    else:
        # After the opening, which names the film.
        before.insert(1 + int(draw() * len(before)), rejected)
    return " ".join([text[0].upper() + text[1:] for text in (*before, verdict, *after)]), int(label)


def class_names(classes: int) -> tuple[str, ...]:
    """Return the names of 2 to 8 classes by class id."""
    return LABELS if classes == 2 else tuple(sorted(_ASPECTS[:classes]))


def _check(split: str, index: int, difficulty: float) -> None:
    if split not in ALL_SPLITS:
        raise ValueError(f"split is {split!r}; the generator's splits are {', '.join(ALL_SPLITS)}")
    if index < 0:
        raise ValueError(f"review {index} of split {split!r} does not exist; the first is 0")
    if not 0 <= difficulty <= 1:
        raise InputError(f"data.synthetic.difficulty={difficulty} is not a number from 0 (easy) to 1 (hard); try 0.5")


def _generate(seed: int, split: str, index: int, difficulty: float, classes: int) -> tuple[str, int]:
    # The seed doesn't include the difficulty, so review i has the same label at each. Only Random.random is used:
    # Python guarantees its sequence in every version, unlike those of Random's other methods.
    digest = blake2b(f"{seed}/{split}/{index}".encode(), digest_size=8).digest()
    draw = Random(int.from_bytes(digest, "big")).random
    return _compose(draw, difficulty) if classes == 2 else _compose_of_aspects(draw, difficulty, classes)


def generate_review(seed: int, split: str, index: int, difficulty: float, classes: int = 2) -> tuple[str, int]:
    """Return review `index` of a split: its text, of 20 to 400 words, and its class id (see `class_names`).

    It depends on the arguments alone, so no earlier review is needed. A larger `difficulty` in [0, 1] makes negated
    verdicts, concessions and other opinions more frequent, reviews longer, and the verdict further from the end. Raises
    InputError for a difficulty outside [0, 1], ValueError for an unknown split or a negative index.
    """
    _check(split, index, difficulty)
    return _generate(seed, split, index, difficulty, classes)


def generate_reviews(
    seed: int, split: str, difficulty: float, start: int = 0, count: int | None = None, classes: int = 2
) -> Iterator[tuple[str, int]]:
    """Yield reviews `start`, `start + 1`, ... of a split as (text, label): `count` of them, or endlessly if it is None.

    Raises as `generate_review` does, at the call and not at the first review.
    """
    _check(split, start, difficulty)
    reviews = (_generate(seed, split, index, difficulty, classes) for index in count_from(start))
    return islice(reviews, count)


class SyntheticSource:
    """The generator's reviews: `data.synthetic.train_reviews` for train and validation, `test_reviews` for test.

    With `data.unlabelled` also `unlabelled_reviews`, which are generated like the others.
    """

    name = "synthetic reviews"

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._counts = {"train": data.synthetic.train_reviews, "test": data.synthetic.test_reviews}
        if data.unlabelled:
            self._counts[UNLABELLED] = data.synthetic.unlabelled_reviews
        self._shares = split_shares(self._counts)

    def identity(self) -> dict[str, str | int | float | None]:
        """Return the generator's settings and version."""
        settings = self._data.synthetic
        return {
            "kind": "synthetic",
            "generator_version": GENERATOR_VERSION,
            "train_reviews": settings.train_reviews,
            "test_reviews": settings.test_reviews,
            "difficulty": settings.difficulty,
            "classes": settings.classes,
            "seed": settings.seed,
            "hashed_share": HASHED_SHARE,
            **({"unlabelled_reviews": settings.unlabelled_reviews} if self._data.unlabelled else {}),
        }

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have."""
        return expected_rows(self._shares, splits, self._counts.__getitem__)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:  # noqa: ARG002 - mixed anyway
        """Yield the generated reviews; see `Source.rows`."""
        return stream_rows("data.synthetic", self._shares, self._parts, splits, self._data)

    def _parts(self, held: str) -> Iterator[Part]:
        settings = self._data.synthetic
        names, count = class_names(settings.classes), self._counts[held]
        reviews = generate_reviews(settings.seed, held, settings.difficulty, count=count, classes=settings.classes)
        yield Part(f"split {held}", ((text, names[label]) for text, label in reviews))
