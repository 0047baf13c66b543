"""Help about groups and keys: values, allowed values of the schema, meanings from the comments in `conf/`."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import Field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import yaml

from textrnn.config.overrides import CONF_DIR, schema_keys
from textrnn.config.schema import Config, LauncherConfig, leaves

EXPLAINED = {"model": "gru", "data": "imdb", "trainer": "auto", "tracking": "auto", "hydra/launcher": "slurm"}
"""The file of each group that explains its keys; train.yaml explains the others."""
SECTIONS = ("", *(key for key, kind in schema_keys().items() if is_dataclass(kind) and "." not in key))
"""Of the configuration; "" are the keys that are in none."""
_KINDS = {bool: "true, false", int: "integer", float: "number", str: "text", list[str]: "list of texts"}
_KEY_COLUMN, _GROUP_COLUMN = 38, 31  # where the second column begins


def width() -> int:
    """Return the columns that help may take: the terminal's, from 60 to 120, and 80 without one."""
    return min(max(shutil.get_terminal_size().columns, 60), 120)


def explain_groups(groups: Sequence[str]) -> str:
    """Return a paragraph for each group: its files as one types them, and what they are for."""
    chosen = _defaults()
    paragraphs = ["groups: each GROUP=NAME is a file in conf/"]
    for group in groups:
        # What is chosen without being typed comes first.
        paths = sorted((CONF_DIR / group).glob("*.yaml"), key=lambda path: (path.stem != chosen.get(group), path.stem))
        lines = []
        for path in paths:
            default = " (default)" if path.stem == chosen.get(group) else ""
            lines.append(_row(f"  {group}={path.stem}{default}", purpose(path), _GROUP_COLUMN))
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n"


def explain_keys(config: Config, sections: Sequence[str] = SECTIONS, *, leave_out: Sequence[str] = ()) -> str:
    """Return a paragraph for each section: every key with its value in `config`, what is allowed, and its meaning.

    Args:
        config: The values.
        sections: Such as "data" or "model.embedding".
        leave_out: Keys that are not shown.
    """
    comments = meanings()
    hints = schema_keys()
    paragraphs = ["keys: KEY=VALUE as it is now, what it may be, what it means"]
    for section in sections:
        lines = []
        for key, item, value in leaves(config):
            inside = key.startswith(f"{section}.") if section else "." not in key
            if inside and key not in leave_out:
                lines.append(_key(key, value, allowed(item, hints[key]), comments[key]))
        heading = textwrap.fill(f"{section}: {_question(hints[section])}" if section else "the run", width())
        paragraphs.append("\n".join([heading, *lines]))
    return "\n\n".join(paragraphs) + "\n"


def explain_launcher() -> str:
    """Return the paragraph of the keys of hydra/launcher=slurm."""
    comments, hints = meanings(), get_type_hints(LauncherConfig)
    lines = [
        _key(f"hydra.launcher.{key}", value, allowed(item, hints[key]), comments[f"hydra/launcher.{key}"])
        for key, item, value in leaves(LauncherConfig())
    ]
    return "\n".join(["hydra.launcher: what -m hydra/launcher=slurm asks SLURM for", *lines])


def allowed(item: Field[Any], hint: Any) -> str:
    """Return what a key may be, in words."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    wanted = str(item.metadata.get("wanted", ""))
    kind = _KINDS.get(kinds[0], "mapping")
    if kinds[0] in (int, float):
        words = " ".join([kind, *wanted.removeprefix("finite").removeprefix(" and ").split()])
    else:
        words = wanted.removeprefix("one of ").removeprefix("a ") or kind
    takes_null = type(None) in kinds or (hint is Any and item.metadata["holds"](None))
    return f"{words}, or null" if takes_null and "null" not in words else words


def explanations(path: Path, prefix: str = "") -> dict[str, str]:
    """Return the comment of each dotted key in a YAML file: the one on its line, else those right above it."""
    lines = path.read_text(encoding="utf-8").splitlines()

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in node.value:
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from walk(value, f"{prefix}{name.value}.")
                continue
            _, _, comment = lines[value.end_mark.line][value.end_mark.column :].partition("# ")
            first = last = name.start_mark.line
            while not comment and first > 0 and lines[first - 1].lstrip().startswith("# "):
                first -= 1
            yield f"{prefix}{name.value}", comment or " ".join(line.strip()[2:] for line in lines[first:last])

    return dict(walk(yaml.compose("\n".join(lines)), prefix))


def meanings() -> dict[str, str]:
    """Return the comment of every dotted key in `conf/`; those of the launcher begin with hydra/launcher."""
    found = explanations(CONF_DIR / "train.yaml")
    for group, name in EXPLAINED.items():
        found |= explanations(CONF_DIR / group / f"{name}.yaml", f"{group}.")
    return found


def _defaults() -> dict[str, str]:
    """Return the file of each group that is chosen without being typed."""
    entries = yaml.safe_load((CONF_DIR / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}


def purpose(path: Path) -> str:
    """Return the header of a YAML file up to its first command."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#   "):
            break
        if not line.startswith("# @"):
            words.append(line[2:])
    return " ".join(words)


def _question(section: Any) -> str:
    """Return the first line of a section's docstring."""
    return (section.__doc__ or "").partition("\n")[0].replace("`", "").rstrip(".")


def _key(key: str, value: Any, may_be: str, meaning: str) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    indent = " " * 6
    explained = textwrap.fill(meaning, width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{_row(f'  {key}={shown}', may_be, _KEY_COLUMN)}\n{explained}"


def _row(left: str, right: str, column: int) -> str:
    """Return two columns, the second one folded."""
    return textwrap.fill(
        right,
        width(),
        initial_indent=f"{left}  ".ljust(column),
        subsequent_indent=" " * column,
        break_on_hyphens=False,
        break_long_words=False,
    )
