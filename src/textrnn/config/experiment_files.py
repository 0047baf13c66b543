"""Experiment files outside `conf/`: `experiment=FILE.yaml`, in the format of `conf/experiment/`.

Hydra finds experiments in `conf/` only. Any other file is turned into overrides here: plain keys and values, checked
against the schema. It can't name code or include another file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.overrides import (
    GROUPS,
    first_line,
    is_experiment_file,
    parse_overrides,
    quote_texts,
    schema_leaves,
    takes_texts,
)

PREFIX = "experiment="
HEADER = "# @package _global_"
"""First line of an experiment; Hydra needs it when the file is moved to `conf/experiment/`."""


def expand_experiment(argv: Sequence[str]) -> list[str]:
    """Return a command line that Hydra can read, with `experiment=FILE.yaml` replaced by the overrides in the file.

    A key on the command line has priority over the file, whatever its place. Texts are quoted where Hydra needs quotes.
    Several files (`-m experiment=a.yaml,b.yaml`) are left for `expand_job`.

    Raises:
        InputError: for a file that can't be read or holds anything but keys of a run.
    """
    return expand_job(quote_texts(argv))


def expand_job(argv: Sequence[str]) -> list[str]:
    """Return the overrides of one job, with `experiment=FILE.yaml` replaced by the overrides in the file.

    Raises:
        InputError: for a file that can't be read or holds anything but keys of a run.
    """
    at = next((index for index, text in enumerate(argv) if text.startswith(PREFIX)), None)
    path = None if at is None else _path(argv[at])
    if at is None or path is None:
        return list(argv)
    typed = [text for index, text in enumerate(argv) if index != at]
    keys = {_key(text) for text in typed if "=" in text}  # not what a flag shows, as in -p optimizer.lr
    read = [text for text in read_experiment(path) if _key(text) not in keys]
    return [*argv[:at], *read, *argv[at + 1 :]]


def read_experiment(path: Path) -> list[str]:
    """Return the overrides in an experiment file.

    Raises:
        InputError: for a file that can't be read or has anything but keys of a run.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content, typed = yaml.safe_load(text), yaml.load(text, yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"experiment={path}: it can't be read ({reason}).") from error
    if not isinstance(content, dict):
        raise InputError(f"experiment={path}: it is not an experiment; conf/experiment/ shows what one looks like.")
    try:
        groups = _groups(content.pop("defaults", []))
        texts = dict(schema_leaves(typed))
        leaves = [(key, _as_typed(key, value, texts.get(key))) for key, value in schema_leaves(content)]
        return [*groups, *(as_override(key, value) for key, value in leaves)]
    except InputError as error:
        raise InputError(f"experiment={path}: {error}") from error


def _as_typed(key: str, value: Any, text: Any) -> Any:
    """Return a text as it is written in the file: YAML would read 12:30:00 as 45000 seconds, and no as false."""
    if takes_texts(key) and value is not None and isinstance(text, str):
        return text
    return value


def write_experiment(values: Mapping[str, Any], header: Sequence[str]) -> str:
    """Return the text of an experiment file with these dotted keys and the lines of `header` as its comment."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = nested
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    comment = "".join(f"# {line}\n" for line in header)
    return f"{HEADER}\n{comment}{yaml.safe_dump(nested, sort_keys=False) if nested else '{}'}"


def as_override(key: str, value: Any) -> str:
    """Return a key and a plain value as an override that Hydra reads back as the same value.

    Raises:
        InputError: for a value that is not plain, or a text with an interpolation such as ${seed}.
    """
    return f"{key}={_text(key, value)}"


def _text(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(_text(key, item) for item in value)}]"
    if not isinstance(value, str) or "${" in value:
        raise InputError(f"{key}: {value!r} is not a plain value; write a number, a text, true, false, null or a list.")
    quoted: str = QuotedString(text=value, quote=Quote.single).with_quotes()
    return quoted


def _path(text: str) -> Path | None:
    """Return the file that `experiment=...` names; None for an experiment in `conf/experiment/`."""
    try:
        (override,) = parse_overrides([text])
        value = override.value()
    except (InputError, HydraException):
        return None  # `compose` reports what is wrong
    return typed_path(str(value), f"{PREFIX}{value}") if is_experiment_file(value) else None


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _groups(defaults: Any) -> list[str]:
    """Return `- override /model: lstm` as model=lstm."""
    chosen = []
    for entry in defaults if isinstance(defaults, list) else [defaults]:
        if entry == "_self_":
            continue
        name, option = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (str(entry), None)
        group = str(name).removeprefix("override /")
        if group not in GROUPS or group == "experiment" or not isinstance(option, str):
            raise InputError(f"defaults: {entry} is not allowed here; write for example override /model: lstm.")
        chosen.append(f"{group}={option}")
    return chosen
