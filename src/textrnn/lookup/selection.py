"""Which runs: conditions on their keys and metrics, their order, and the best of them."""

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import Any

from textrnn.base.errors import InputError
from textrnn.config.schema import Config, leaves
from textrnn.lookup.records import RunRecord
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.metrics_csv import BEST, METRICS, best_is
from textrnn.tracking.summary import RunSummary

OWN = ("path", "state")
"""Names of what a record says besides its files."""
DATA = ("data.source", "data.path", "data.repo", "data.revision", "data.config", "data.splits.")
"""Keys, or their beginnings, that name a run's data."""
ORDERED: dict[str, Callable[[Any, Any], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}
_CONDITION = re.compile(r"(?P<name>[^<>=!]+?)\s*(?P<sign>>=|<=|!=|==?|>|<)\s*(?P<typed>.*)")
_HINT = "type KEY=VALUE, or in quotes 'KEY>VALUE', as > is the shell's"


def value_of(record: RunRecord, name: str) -> Any:
    """Return what a record has under a name of `names`; None if it has nothing."""
    if name in OWN:
        return str(getattr(record, name))
    for part in (record.summary, record.identity, record.config):
        if name in part:
            return part[name]
    return None


def names(records: Iterable[RunRecord] = ()) -> list[str]:
    """Return the names of what a run may have, those of `records` too, which may be of another version."""
    known = [*OWN, *METRICS]
    known += [
        item.name for item in (*fields(RunSummary), *fields(RunIdentity)) if item.name not in ("metrics", "coverage")
    ]
    known += [key for key, _, _ in leaves(Config())]
    for record in records:
        for part in (record.summary, record.identity, record.config):
            known += part
    return list(dict.fromkeys(known))


def check_name(name: str, records: Iterable[RunRecord], typed: str) -> None:
    """Refuse a name that no run has.

    Raises:
        InputError: with the nearest name.
    """
    if name in names() or name in names(records):
        return
    from textrnn.config.overrides import nearest  # Hydra takes half a second to import

    raise InputError(f"{typed}: there is no key or metric {name}; {nearest(name, names(records))}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a run, such as `model.cell=gru,lstm` or `val/accuracy>0.9`.

    Attributes:
        name: Key or metric.
        sign: =, !=, >=, <=, > or <.
        typed: After = and != one of several values, separated by commas; each may be a pattern such as `gru*`.
    """

    name: str
    sign: str
    typed: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition that was typed.

        Raises:
            InputError: it is none.
        """
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise InputError(f"--where {text}: is not a condition; {_HINT}.")
        name, sign, typed = found["name"].strip(), found["sign"].replace("==", "="), found["typed"].strip()
        if sign in ORDERED and not typed:
            raise InputError(f"--where {text}: nothing to compare with; {_HINT}.")
        return cls(name, sign, typed)

    def __call__(self, record: RunRecord) -> bool:
        """Return whether the run meets it; a run without such a value meets only `=null` and `!=`."""
        value = value_of(record, self.name)
        if self.sign in ORDERED:
            if isinstance(value, str):  # times, versions
                return ORDERED[self.sign](value, self.typed)
            limit = _number(self.typed)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and limit is not None and ORDERED[self.sign](value, limit)
        choices = [self.typed, *self.typed.split(",")]
        values = [value, *value] if isinstance(value, list) else [value]
        equal = any(_equals(item, choice.strip()) for item in values for choice in choices)
        return equal == (self.sign == "=")


def _equals(value: Any, typed: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(typed) == value or typed == str(value)  # the second: nan
    return told(value) == typed or fnmatchcase(told(value), typed)  # [1,2] is a list and a pattern


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def told(value: Any) -> str:
    """Return a value as it is typed on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(told, value))}]" if isinstance(value, list) else str(value)


def selected(records: Sequence[RunRecord], typed: Sequence[str]) -> list[RunRecord]:
    """Return the runs that meet all conditions.

    Raises:
        InputError: a condition can't be read, or names what no run has.
    """
    conditions = [Condition.parse(text) for text in typed]
    for condition, text in zip(conditions, typed, strict=True):
        check_name(condition.name, records, f"--where {text}")
    return [record for record in records if all(condition(record) for condition in conditions)]


def order_of(value: Any) -> tuple[int, Any]:
    """Return a key by which values of different types sort: numbers, then texts."""
    if isinstance(value, int | float):
        return 0, value
    return 1, told(value)


def is_missing(value: Any) -> bool:
    """Return whether a run has no such value, or NaN: such runs come last in any order."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def best_of(records: Sequence[RunRecord], metric: str) -> RunRecord | None:
    """Return the best of the finished runs that have the metric, of equal ones the oldest; None without any."""
    sign = 1 if best_is(metric) == "max" else -1
    measured = [run for run in records if run.state == "finished" and not is_missing(run.summary.get(metric))]
    measured.sort(key=lambda run: (-sign * run.summary[metric], str(run.identity.get("created", ""))))
    return measured[0] if measured else None


def data_of(record: RunRecord) -> str:
    """Return what names a run's data; metrics on different data can't be compared."""
    prefixes = DATA + (("data.synthetic.",) if record.config.get("data.source") == "synthetic" else ())
    return str({key: told(value) for key, value in sorted(record.config.items()) if key.startswith(prefixes)})


def check_metric(metric: str) -> None:
    """Refuse a metric that can't choose a run.

    Raises:
        InputError: it is of the test, or has no best value.
    """
    choosing = [name for name in METRICS if not name.startswith("test/") and name.rpartition("/")[2] in BEST]
    if metric.startswith("test/"):
        raise InputError(f"--metric {metric}: the test must not choose a run; type --metric val/{metric[5:]}.")
    if metric not in choosing:
        from textrnn.config.overrides import nearest

        raise InputError(f"--metric {metric}: is no metric with a best value; {nearest(metric, choosing)}")
