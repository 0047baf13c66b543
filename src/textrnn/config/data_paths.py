"""What `data.path` names: a file, a folder, a pattern such as `reviews/*.csv`, or a list of these."""

import glob
import re
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path

_HUB = re.compile(r"(?:hf://|https?://huggingface\.co/)datasets/(?P<repo>[\w.-]+/[\w.-]+)")


def typed_data(path: str | list[str]) -> str:
    """Return `data.path` as it is typed, for messages: data.path=reviews.csv or data.path=[a.csv,b.csv]."""
    return f"data.path={path if isinstance(path, str) else '[' + ','.join(path) + ']'}"


def data_paths(path: str | list[str]) -> list[Path]:
    """Return the files and folders that `data.path` names, as absolute paths.

    Raises:
        InputError: one of them doesn't exist, or is on another machine.
    """
    found: list[Path] = []
    for name in [path] if isinstance(path, str) else path:
        typed = f"data.path={name}"
        _refuse_address(name, typed)
        literal = typed_path(name, typed).absolute()
        if literal.exists():
            found.append(literal)
            continue
        matches = sorted(glob.glob(str(literal), recursive=True))  # noqa: PTH207 - without hidden files
        if not matches:
            if any(character in name for character in "*?["):
                raise InputError(f"{typed}: no file here has such a name (looked for {literal}); type another pattern.")
            raise InputError(
                f"{typed} does not exist (looked for {literal}); type a file or folder, or data=synthetic."
            )
        found += map(Path, matches)
    return list(dict.fromkeys(found))


def _refuse_address(name: str, typed: str) -> None:
    scheme, separator, _ = name.partition("://")
    if not separator:
        return
    if hub := _HUB.match(name):
        raise InputError(f"{typed} is on the Hub, and data.path is for this machine; type data.repo={hub['repo']}.")
    raise InputError(f"{typed} is not on this machine ({scheme}://); download it, and type data.path=FILE.")
