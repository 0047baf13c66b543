"""Single values: each function raises an `InputError` that names the key and what to type instead."""

import math
from collections.abc import Sequence
from typing import Any

from textrnn.config import Config
from textrnn.errors import InputError


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """The value is one of the choices."""
    if value not in choices:
        raise InputError(f"{key}={value}: must be one of {', '.join(choices)}.")


def optional_one_of(key: str, value: str | None, choices: Sequence[str]) -> None:
    """The value is null or one of the choices."""
    if value is not None:
        one_of(key, value, choices)


def at_least(key: str, value: float | None, least: float) -> None:
    """The value is null or not below the least."""
    if value is not None and not value >= least:
        raise InputError(f"{key}={value}: must be at least {least}; type for example {key}={default(key)}.")


def finite(key: str, value: float) -> None:
    """The value is a finite number."""
    if not math.isfinite(value):
        raise InputError(f"{key}={value}: must be a finite number; type for example {key}={default(key)}.")


def named(key: str, value: str) -> None:
    """The value is not empty."""
    if not value.strip():
        raise InputError(f"{key} is empty; type for example {key}={default(key)}.")


def default(key: str) -> Any:
    """The default of a dotted key, as an example of what to type."""
    value: Any = Config()
    for name in key.split("."):
        value = getattr(value, name)
    return "null" if value is None else value
