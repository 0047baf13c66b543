"""What the site gets from elsewhere: the keys from conf/ and schema.py, the commands' help, and the notebooks.

conf/ explains the keys and schema.py says what they may be; the site has no other text on them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from textrnn.cli import COMMANDS
from textrnn.config.schema import Config, LauncherConfig, leaves

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
FILES = {
    "train.yaml": "",
    "model/gru.yaml": "model.",
    "data/imdb.yaml": "data.",
    "trainer/auto.yaml": "trainer.",
    "tracking/auto.yaml": "tracking.",
    "hydra/launcher/slurm.yaml": "hydra.launcher.",
}
"""The files that explain keys, and what these begin with on the command line."""
SECTIONS = (
    "run",
    "model",
    "data",
    "optimizer",
    "early_stopping",
    "checkpoint",
    "trainer",
    "tracking",
    "hydra.launcher",
)
GROUPS = ("model", "data", "trainer", "tracking", "experiment", "hydra/launcher")
KEY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?P<value>[^#]*)(?:# (?P<comment>.*))?")
TYPES = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "Any": "",
    "list": "a list",
    "dict": "names and values",
}


class Key(NamedTuple):
    """A key of the configuration."""

    name: str
    default: str
    allowed: str
    meaning: str


def explanations(path: Path) -> dict[str, str]:
    """Return the comment of each key in a YAML file, behind the key or in the lines above it, by the dotted key."""
    found: dict[str, str] = {}
    above: list[str] = []
    parents: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := KEY.fullmatch(line):
            parents = [*parents[: len(match["indent"]) // 2], match["name"]]
            found[".".join(parents)] = " ".join([*above, match["comment"] or ""]).strip()
            above = []
        elif line.startswith("#   "):  # the command that ends a file's header
            above = []
        elif line.lstrip().startswith("# "):
            above.append(line.strip().removeprefix("# "))
        else:
            above = []
    return found


def header(path: Path) -> str:
    """Return the first sentence of a YAML file's header."""
    comments = (line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    lines = takewhile(lambda line: not line.startswith(" "), (line for line in comments if line[0] != "@"))
    return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(lines))[0]


def keys() -> dict[str, list[Key]]:
    """Return all keys by section."""
    fields = {key: (item, value) for key, item, value in leaves(Config())}
    fields |= {f"hydra.launcher.{key}": (item, value) for key, item, value in leaves(LauncherConfig())}
    found: dict[str, list[Key]] = {section: [] for section in SECTIONS}
    for file, prefix in FILES.items():
        for name, comment in explanations(CONF / file).items():
            if (key := prefix + name) in fields:
                item, value = fields[key]
                section = next((section for section in SECTIONS if key.startswith(f"{section}.")), "run")
                found[section].append(Key(key, _shown(value), _allowed(item), comment))
    return found


def _shown(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _allowed(item: Field[Any]) -> str:
    """Return what a key may be: the rule of its field in schema.py, or else its type."""
    kinds = str(getattr(item.type, "__name__", item.type)).split(" | ")
    wanted = str(item.metadata.get("wanted", "")).removeprefix("finite").removeprefix(" and ")
    kind = TYPES[re.sub(r"\[.*", "", kinds[0])]
    wanted = f"{kind} {wanted}".strip() if kinds[0] in ("int", "float") else wanted or kind
    return f"{wanted}, or null" if "None" in kinds else wanted


def configuration() -> Iterator[str]:
    """Yield the lines of the tables of keys."""
    for section, found in keys().items():
        yield "### The run\n" if section == "run" else f"### `{section}`\n"
        for key in found:
            meaning = key.meaning.replace("<", r"\<")
            yield f"`{key.name}` = `{key.default}`\n: {meaning}\\\n  {key.allowed[:1].upper()}{key.allowed[1:]}.\n"


def groups() -> Iterator[str]:
    """Yield the lines of the table of files that a group offers."""
    yield "| type | what it is |\n|---|---|"
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            yield f"| `{group}={path.stem}` | {header(path)} |"


def help_of(command: str) -> str:
    """Return what a command prints for --help, 80 columns wide."""
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "textrnn", *filter(None, [command]), "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip() + "\n"


def copy_notebooks(folder: Path) -> None:
    """Copy the notebooks with their outputs to a folder below docs/."""
    folder.mkdir(exist_ok=True)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy2(path, folder)


def write(folder: Path) -> None:
    """Write the keys and the help to a folder; a file that stays the same keeps its time."""
    folder.mkdir(exist_ok=True)
    parts = {"keys.md": "\n".join(configuration()), "groups.md": "\n".join(groups())}
    parts |= {f"help-{name or 'textrnn'}.txt": help_of(name) for name in ("", *COMMANDS)}
    for name, text in parts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
