"""Classes: what a label says, which classes the training rows have, and their ids.

A label is a number or a text. 0 and 1, false and true, and known pairs of names are the classes negative and positive;
any others are called what their labels say. Their order is by number or by name, so that the ids don't depend on the
order of the rows, or the order of `data.classes`.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import LABELS, DataConfig

Label = int | float | str
"""A label as a value: 1, True, 1.0, "1" and "1.0" are the number 1."""

MOST_CLASSES = 1000
FEWEST_TO_JUDGE = 20
"""Classes above which half of the training rows can't have a class of their own."""
SHOWN = 10
"""Classes that a line names."""

_SIDES = {"negative": 0, "neg": 0, "bad": 0, "false": 0, "0": 0, "positive": 1, "pos": 1, "good": 1, "true": 1, "1": 1}
"""Labels of two classes whose meaning is known, in any case."""
_PLAIN = re.compile(r"[\w.+-]+")
"""A name that needs no quotes in a list on the command line."""
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A class's number in a column that names its classes, but not this one: -1 is a hidden label."""

    number: int


class NotALabel(ValueError):  # noqa: N818 - about a value, which is reported as wrong input
    """A row's label is none; the message continues the row's name in a sentence."""


def read_label(raw: object) -> Label | None:
    """Return a label as a value; None if it is missing or none."""
    if isinstance(raw, str):
        text = raw.strip()
        if _NUMBER.fullmatch(text):
            return read_label(float(text)) if "." in text else int(text)
        return None if text.lower() in ("", "nan") else text
    if isinstance(raw, int):
        return int(raw)  # False and True are 0 and 1
    if isinstance(raw, float) and math.isfinite(raw):
        return int(raw) if raw.is_integer() else raw  # integers become floats in a column that once had a gap
    return None


def learn_classes(labels: Collection[Label]) -> tuple[str, ...]:
    """Return the classes of the training rows, whose different labels are `labels`, by class id."""
    if {_side(label) for label in labels} == {0, 1}:
        return LABELS
    numbers = [label for label in labels if not isinstance(label, str)]
    return tuple(map(str, sorted(numbers) if len(numbers) == len(labels) else sorted(map(str, labels))))


def _side(label: Label) -> int | None:
    return _SIDES.get(_folded(label))


def _folded(label: Label) -> str:
    return str(label).casefold()


class ClassIds:
    """The ids of classes by their labels.

    A label is that of the class with its very name, else of the only class that differs from it in case, else of the
    class that means the same, if the classes are negative and positive.

    Attributes:
        names: The classes by id.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(str(read_label(name)) for name in names)
        self._ids = {name: number for number, name in enumerate(self.names)}
        folded = [_folded(name) for name in self.names]
        self._folded = {name: number for number, name in enumerate(folded) if folded.count(name) == 1}
        sides = {_side(name): number for number, name in enumerate(self.names)}
        self._sides = sides if len(self.names) == 2 and set(sides) == {0, 1} else {}

    def get(self, label: Label) -> int | None:
        """Return the id of a label's class; None if it has none."""
        for ids, key in ((self._ids, str(label)), (self._folded, _folded(label)), (self._sides, _side(label))):
            if key in ids:
                return ids[key]  # type: ignore[index]  # each key is of its dictionary
        return None

    def name(self, label: Label) -> str | None:
        """Return the name of a label's class; None if it has none."""
        found = self.get(label)
        return None if found is None else self.names[found]


class LabelColumn:
    """The labels of one pass over a source: read and checked.

    Args:
        origin: The source as it is typed, such as "data.path=reviews.csv".
        data: The data configuration.
    """

    def __init__(self, origin: str, data: DataConfig) -> None:
        self._name = data.label_column
        self._column = f"{origin}: column {data.label_column!r}"
        self._ids = None if data.classes is None else ClassIds(data.classes)
        self._read: dict[object, Label] = {}
        self._by_folded: dict[str, Label] = {}

    def read(self, raw: object) -> Label:
        """Return the label of a row; with `data.classes`, the name of its class.

        Raises:
            NotALabel: it is missing, hidden, or none of `data.classes`.
            InputError: it differs from another one in case alone, or the column has too many different ones.
        """
        known = self._read.get(raw) if raw.__hash__ is not None else None
        if known is not None:
            return known
        label = read_label(raw)
        if label is None:
            raise NotALabel(self._refusal(raw))
        if self._ids is not None:
            name = self._ids.name(label)
            if name is None:
                raise NotALabel(
                    f"has the label {label!r:.40} in column {self._name!r}, but data.classes names "
                    f"{listed_classes(self._ids.names)}; correct or remove the row, or add the class"
                )
            label = name
        elif (other := self._by_folded.setdefault(_folded(label), label)) != label:
            raise InputError(
                f"{self._column} holds the labels {other!r:.40} and {label!r:.40}, which differ in case alone; write "
                "both alike, or type data.classes=[NAME,NAME,...] with the name of each class"
            )
        self._read[raw] = label
        if len(self._by_folded) > MOST_CLASSES:
            raise InputError(self._not_classes(f"more than {MOST_CLASSES:,} different values"))
        return label

    def check_training(self, labels: Collection[Label], rows: int) -> None:
        """Check the different labels of `rows` training rows.

        Raises:
            InputError: most rows have a label of their own.
        """
        if self._ids is None and len(labels) > max(FEWEST_TO_JUDGE, rows / 2):
            raise InputError(self._not_classes(f"{len(labels):,} different values in {rows:,} training rows"))

    def unseen(self, label: Label, known: Collection[Label]) -> str | None:
        """Return the refusal of a label that has no class of the training rows; None if it has one."""
        if self._ids is not None or label in known or ClassIds(classes := learn_classes(known)).get(label) is not None:
            return None
        return (
            f"has the label {label!r:.40} in column {self._name!r}, which no training row has (classes: "
            f"{listed_classes(classes)}); correct or remove the row, or type {typed_classes((*classes, str(label)))}"
        )

    def _not_classes(self, found: str) -> str:
        return (
            f"{self._column} holds {found}, so it isn't a column of classes; type data.label_column=NAME with the "
            "column that holds the labels"
        )

    def _refusal(self, raw: object) -> str:
        if isinstance(raw, Unnamed) and raw.number == -1:
            found = "a hidden label (-1)"
        elif isinstance(raw, Unnamed):
            found = f"the class number {raw.number}, which the file doesn't name,"
        elif isinstance(raw, str | float) or raw is None:
            found = "no label"
        else:
            found = f"no label but {raw!r:.40}"
        return (
            f"has {found} in column {self._name!r}; correct or remove the row, or type data.label_column=NAME with the "
            "column that holds the labels"
        )


def classes_line(classes: Sequence[str]) -> str:
    """Return the line that shows the classes."""
    number = f"{len(classes)} " if len(classes) > SHOWN else ""
    return f"{number}classes: {listed_classes(classes)}"


def listed_classes(classes: Sequence[str]) -> str:
    """Return the names of the first classes, and how many more there are."""
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return f"{', '.join(classes[:SHOWN])}{more}"


def typed_classes(classes: Sequence[str]) -> str:
    """Return the override that names the classes, in words where it would be long or need quotes."""
    names = classes if len(classes) <= SHOWN and all(map(_PLAIN.fullmatch, classes)) else ("NAME", "NAME", "...")
    return f"data.classes=[{','.join(names)}]"


def choose_classes(labels: Mapping[str, Counter[Label]], data: DataConfig) -> ClassIds:
    """Return the classes of a source and show them: `data.classes`, else those of its training rows.

    Args:
        labels: How often each label occurs in each split; with segments, in the first one.
        data: The data configuration.

    Raises:
        InputError: there is only one class, or a split has a label of another one.
    """
    train = labels["train"]
    if data.classes is None and len(train) < 2:
        only = next(iter(train))
        if data.segment_size is None:
            raise InputError(f"data: all training rows are of class {only}; give it rows of another class too")
        raise InputError(
            f"data.segment_size={data.segment_size}: segment 0 holds reviews of class {only} only; shuffle the rows of "
            "the source, type a larger data.segment_size, or data.classes=[NAME,NAME,...] with all classes"
        )
    classes = ClassIds(data.classes or learn_classes(train))
    for split, counts in labels.items():
        for label in counts:
            if classes.get(label) is None:
                raise InputError(
                    f"the {split} split has the label {label!r:.40}, which no training row"
                    f"{'' if data.segment_size is None else ' of segment 0'} has (classes: "
                    f"{listed_classes(classes.names)}); type {typed_classes((*classes.names, str(label)))}"
                )
    LOGGER.info(classes_line(classes.names))
    if data.segment_size is None:
        _report_rare(classes, train)
    return classes


def _report_rare(classes: ClassIds, train: Mapping[Label, int]) -> None:
    """Name the classes with one training review, or none."""
    counts = Counter(classes.name(label) for label, count in train.items() for _ in range(min(count, 2)))
    for few, words in ((1, "a single training review"), (0, "no training review")):
        if names := [name for name in classes.names if counts[name] == few]:
            LOGGER.warning(f"classes with {words}: {listed_classes(names)}")
