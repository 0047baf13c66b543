"""What the site gets from elsewhere: the keys from conf/ and schema.py, the commands' help, and the notebooks.

conf/ explains the keys and schema.py says what they may be; the site has no other text on them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from textrnn.cli import COMMANDS
from textrnn.config.help import allowed, meanings, purpose
from textrnn.config.overrides import schema_keys
from textrnn.config.schema import Config, LauncherConfig, leaves

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
GROUPS = ("model", "data", "trainer", "tracking", "objective", "experiment", "hydra/launcher")


class Key(NamedTuple):
    """A key of the configuration."""

    name: str
    default: str
    allowed: str
    meaning: str


def keys() -> dict[str, list[Key]]:
    """Return all keys by section."""
    comments, hints = meanings(), schema_keys()
    found: dict[str, list[Key]] = {}
    for key, item, value in leaves(Config()):
        section = key.partition(".")[0] if "." in key else "run"
        found.setdefault(section, []).append(Key(key, _shown(value), allowed(item, hints[key]), comments[key]))
    hints = get_type_hints(LauncherConfig)
    found["hydra.launcher"] = [
        Key(f"hydra.launcher.{key}", _shown(value), allowed(item, hints[key]), comments[f"hydra/launcher.{key}"])
        for key, item, value in leaves(LauncherConfig())
    ]
    return found


def _shown(value: Any) -> str:
    """Return a value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def configuration() -> Iterator[str]:
    """Yield the lines of the tables of keys."""
    for section, found in keys().items():
        yield "### The run\n" if section == "run" else f"### `{section}`\n"
        for key in found:
            meaning = key.meaning.replace("<", r"\<")
            yield f"`{key.name}` = `{key.default}`\n: {meaning}\\\n  {key.allowed[:1].upper()}{key.allowed[1:]}.\n"


def _sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s+(?=[A-Z])", text)[0]


def groups() -> Iterator[str]:
    """Yield the lines of the table of files that a group offers."""
    yield "| type | what it is |\n|---|---|"
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            yield f"| `{group}={path.stem}` | {_sentence(purpose(path))} |"


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
