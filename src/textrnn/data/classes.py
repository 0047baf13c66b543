"""Classes: what a label says, which classes the training rows have, and their ids.

A label is a number or a text. 0 and 1, false and true, and known pairs of names are the classes negative and positive;
any others are called what their labels say. Their order is by number or by name, so that the ids don't depend on the
order of the rows, or the order of `data.classes`.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import LABELS, DataConfig

Label = int | float | str
"""A label as a value: 1, True, 1.0, "1" and "1.0" are the number 1."""

RowLabel = Label | tuple[Label, ...]
"""The label of a row; with several labels a text all of them, each once."""

MOST_CLASSES = 1000
FEWEST_TO_JUDGE = 20
"""Classes above which half of the training rows can't have a class of their own."""
ROWS_A_CLASS = 10
"""Rows that a class has at least on average, in a column that looks like one of classes."""
LOOKED_AT = 1000
"""Rows that are looked at for such a column."""
SHOWN = 10
"""Classes that a line names."""

_SIDES = {"negative": 0, "neg": 0, "bad": 0, "false": 0, "0": 0, "positive": 1, "pos": 1, "good": 1, "true": 1, "1": 1}
"""Labels of two classes whose meaning is known, in any case."""
_PLAIN = re.compile(r"[\w.+-]+")
"""A name that needs no quotes in a list on the command line."""
_SEPARATORS = re.compile(r"[,;|]")
"""Between the names of several labels in a cell of a csv file."""
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A class's number in a column that names its classes, but not this one: -1 is a hidden label."""

    number: int


class NotClasses(InputError):  # noqa: N818 - about a column, which is reported as wrong input
    """A column holds other things than classes; the message ends with what to type instead."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; type data.label_column=NAME with the column that holds the labels")
        self._found = found

    def naming(self, columns: Sequence[str]) -> InputError:
        """Return the refusal with the columns that look like one of classes; itself without any."""
        if not columns:
            return self
        typed = " or ".join(f"data.label_column={name}" for name in columns[:SHOWN])
        return InputError(f"{self._found}; type {typed}, which {'look' if len(columns) > 1 else 'looks'} like one")


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


def single_labels(label: RowLabel) -> tuple[Label, ...]:
    """Return the labels of a row: one, or with several labels a text any number."""
    return label if isinstance(label, tuple) else (label,)


def learn_classes(labels: Collection[Label], *, many: bool = False) -> tuple[str, ...]:
    """Return the classes of the training rows, whose different labels are `labels`, by class id.

    With several labels a text (`many`) no two of them are the sides of one question.
    """
    if not many and {_side(label) for label in labels} == {0, 1}:
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

    def row(self, label: RowLabel) -> int | list[int] | None:
        """Return the class id of a row, or 1 for each class that it has and 0 for each other; None for no class."""
        if not isinstance(label, tuple):
            return self.get(label)
        found = {self.get(single) for single in label}
        return None if None in found else [int(number in found) for number in range(len(self.names))]

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
        self._columns = data.label_columns()
        self._name = ", ".join(self._columns)
        self._column = f"{origin}: column {self._name!r}"
        self._many = data.many_labels()
        names = _typed_names(data)
        self._ids = None if names is None else ClassIds(names)
        self._read: dict[object, Label] = {}
        self._by_folded: dict[str, Label] = {}

    def read(self, raw: object) -> RowLabel:
        """Return the label of a row; with `data.classes`, the name of its class.

        With several labels a text, `raw` is a list of them, a text with `,`, `;` or `|` between them or, of several
        columns, a tuple with 1 for each class that it has.

        Raises:
            NotALabel: it is missing, hidden, or none of `data.classes`.
            InputError: it differs from another one in case alone, or the column has too many different ones.
        """
        if not self._many:
            return self._single(raw)
        if isinstance(raw, tuple):
            return tuple(name for name, value in zip(self._columns, raw, strict=True) if self._is_of(name, value))
        if isinstance(raw, str):
            raw = _split(raw)
        labels = {self._single(single) for single in (raw if isinstance(raw, list) else [raw])}
        return tuple(sorted(labels, key=str))

    def _is_of(self, column: str, raw: object) -> bool:
        """Return whether a row is of a class, by the class's own column."""
        label = read_label(raw)
        if label is None or label == -1:
            found = "a hidden label (-1)" if label == -1 else "no label"
            raise NotALabel(f"has {found} in column {column!r}; correct or remove the row")
        side = _side(label)
        if side is None:
            raise NotALabel(
                f"has the label {label!r:.40} in column {column!r}, but each of several label columns holds 1 for the "
                "texts of its class and 0 for the others; correct the row, or type data.label_column=NAME with the "
                "column that holds the labels"
            )
        return side == 1

    def _single(self, raw: object) -> Label:
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
            raise NotClasses(self._not_classes(f"more than {MOST_CLASSES:,} different values"))
        return label

    def check_training(self, labels: Collection[Label], rows: int) -> None:
        """Check the different labels of `rows` training rows.

        Raises:
            InputError: most rows have a label of their own.
        """
        if self._ids is None and len(labels) > max(FEWEST_TO_JUDGE, rows / 2):
            raise NotClasses(self._not_classes(f"{len(labels):,} different values in {rows:,} training rows"))

    def unseen(self, label: Label, known: Collection[Label]) -> str | None:
        """Return the refusal of a label that has no class of the training rows; None if it has one."""
        if self._ids is not None or label in known or ClassIds(classes := learn_classes(known)).get(label) is not None:
            return None
        return (
            f"has the label {label!r:.40} in column {self._name!r}, which no training row has (classes: "
            f"{listed_classes(classes)}); correct or remove the row, or type {typed_classes((*classes, str(label)))}"
        )

    def _not_classes(self, found: str) -> str:
        return f"{self._column} holds {found}, so it isn't a column of classes"

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


def columns_like_classes(rows: Iterable[Mapping[str, object]], data: DataConfig) -> list[str]:
    """Return the columns, other than those of `data`, of which ten rows or more share a label, in rows by column."""
    values: dict[str, list[Label | None]] = {}
    for row in rows:
        for column, value in row.items():
            if column not in data.columns():
                values.setdefault(column, []).append(read_label(value))
    return [
        column
        for column, labels in values.items()
        if None not in labels and 2 <= len({*labels}) <= max(2, len(labels) / ROWS_A_CLASS)
    ]


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


def _typed_names(data: DataConfig) -> list[str] | None:
    """Return the names of classes that are typed: `data.classes`, or several label columns."""
    return data.label_columns() if len(data.label_columns()) > 1 else data.classes


def _split(cell: str) -> list[str]:
    """Return the labels in a cell: between separators, or of a list as Python and JSON write it."""
    text = cell.strip()
    if text.startswith("[") and text.endswith("]"):
        return [name.strip().strip("'\"") for name in text[1:-1].split(",") if name.strip()]
    return [name for name in _SEPARATORS.split(text) if name.strip()]


def _counted(counts: Mapping[RowLabel, int]) -> Counter[Label]:
    """Return how often each single label occurs."""
    singles: Counter[Label] = Counter()
    for label, count in counts.items():
        singles.update(dict.fromkeys(single_labels(label), count))
    return singles


def choose_classes(labels: Mapping[str, Counter[RowLabel]], data: DataConfig) -> ClassIds:
    """Return the classes of a source and show them: `data.classes`, else those of its training rows.

    Args:
        labels: How often each label occurs in each split; with segments, in the first one.
        data: The data configuration.

    Raises:
        InputError: there is only one class, or a split has a label of another one.
    """
    singles = {split: _counted(counts) for split, counts in labels.items()}
    train, typed = singles["train"], _typed_names(data)
    if typed is None and len(train) < 2:
        if not train:
            raise InputError("data: no training row has a label; give it rows with labels too")
        only = next(iter(train))
        if data.segment_size is None:
            raise InputError(f"data: all training rows are of class {only}; give it rows of another class too")
        raise InputError(
            f"data.segment_size={data.segment_size}: segment 0 holds reviews of class {only} only; shuffle the rows of "
            "the source, type a larger data.segment_size, or data.classes=[NAME,NAME,...] with all classes"
        )
    classes = ClassIds(typed or learn_classes(train, many=data.many_labels()))
    for split, counts in singles.items():
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
