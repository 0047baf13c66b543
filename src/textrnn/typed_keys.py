"""Which keys of a run that has begun an override changes: with `resume=RUN` only what is typed does."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from operator import attrgetter
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from textrnn.config import Config
from textrnn.overrides import CONF_DIR, GROUPS, schema_keys, schema_leaves


def typed_keys(override: Override, run: Config) -> list[str]:
    """The dotted keys of single values that `override` stands for in a run with the configuration `run`.

    GROUP=NAME stands for the keys of that file alone. Where the run has all that another file of the group says, as one
    of `trainer=cpu` has, it stands for the keys of that file too: `trainer=gpu` goes in its place.
    """
    key, value = override.key_or_group, override.value()
    if isinstance(value, Mapping) and is_dataclass(schema_keys().get(key)):
        return [leaf for leaf, _ in schema_leaves(value, f"{key}.")]
    if key not in GROUPS:
        return [key]
    files = _files(key)
    replaced = [file for file in files.values() if all(attrgetter(leaf)(run) == file[leaf] for leaf in file)]
    # A dictionary, as a set has no order.
    return list(dict.fromkeys(leaf for file in [*replaced, files.get(str(value), {})] for leaf in file))


def _files(group: str) -> dict[str, dict[str, Any]]:
    """What each file of a group says of the group's own keys, the default file aside, which says them all."""
    return {
        path.stem: dict(_own(group, path.read_text(encoding="utf-8"))) for path in (CONF_DIR / group).glob("*.yaml")
    }


def _own(group: str, text: str) -> Iterator[tuple[str, Any]]:
    values = yaml.safe_load(text)
    # The default file is the one that others build on.
    if values.pop("defaults", None) is not None:
        # A file that sets keys of other sections too has its own under the group's name.
        yield from schema_leaves(values.get(group, values), f"{group}.")
