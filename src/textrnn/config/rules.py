"""Fields of the schema with the rule that their values satisfy, and the rules."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any


def rule(holds: Callable[[Any], bool], wanted: str) -> dict[str, Any]:
    """Return the metadata of a field whose values satisfy `holds`; `wanted` describes them, after "must be".

    None is only checked for the type Any; other types state whether it is allowed.
    """
    return {"holds": holds, "wanted": wanted}


def choice(default: str | None, choices: Sequence[str]) -> Any:
    """Return a field whose value is one of `choices`."""
    return field(default=default, metadata=rule(lambda value: value in choices, f"one of {', '.join(choices)}"))


def text(default: str | None) -> Any:
    """Return a field whose value is a non-empty text."""
    return field(default=default, metadata=rule(lambda value: bool(value.strip()), "a text that is not empty"))


def number(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a field whose value is a finite number within these bounds."""
    limits = (
        ("at least", at_least, operator.ge),
        ("above", above, operator.gt),
        ("at most", at_most, operator.le),
        ("below", below, operator.lt),
    )
    bounds = [(words, limit, compare) for words, limit, compare in limits if limit is not None]
    wanted = [f"{words} {limit}" for words, limit, _ in bounds]
    if isinstance(default, float) and at_most is None and below is None:
        wanted.insert(0, "finite")
    within = rule(
        lambda value: math.isfinite(value) and all(compare(value, limit) for _, limit, compare in bounds),
        " and ".join(wanted),
    )
    return field(default=default, metadata=within)


def probability(default: float) -> Any:
    """Return a field whose value is a probability below 1."""
    return number(default, at_least=0, below=1)


def is_count(value: Any) -> bool:
    """Return whether it is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_share(value: Any) -> bool:
    """Return whether it is None, a number of batches, or a share of them."""
    return value is None or is_count(value) or (isinstance(value, float) and 0.0 <= value <= 1.0)


def are_devices(value: Any) -> bool:
    """Return whether it is auto, -1, a number of devices, or a list of their numbers."""
    if isinstance(value, list):
        return bool(value) and all(is_count(item) for item in value)
    return value == "auto" or value == -1 or (is_count(value) and value > 0)


def are_betas(value: list[float]) -> bool:
    """Return whether it is Adam's two decay rates."""
    return len(value) == 2 and all(0 <= beta < 1 for beta in value)


def are_classes(value: list[str]) -> bool:
    """Return whether it is names of two or more different classes."""
    names = [name.strip() for name in value]
    return len(names) >= 2 and all(names) and len(set(names)) == len(names)


def are_texts(value: Any) -> bool:
    """Return whether it is a text, or a list of texts, none of them empty."""
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(item, str) and item.strip() for item in values)


def is_delimiter(value: str) -> bool:
    """Return whether it is tab, or one character that csv allows between columns."""
    return value == "tab" or (len(value) == 1 and value not in '"\r\n')


BATCHES = "a number of batches (integer), or a share of them between 0.0 and 1.0"
DEVICES = "auto, a number from 1, or a list of device numbers such as [0,1]"
TIMES = "DD:HH:MM:SS (in a YAML file in quotes), such as 00:01:30:00"
TIME = re.compile(r"\d{2}:\d{2}:\d{2}:\d{2}")
