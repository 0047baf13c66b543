"""Overrides on the command line, checked against the schema and the files of `conf/`."""

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from textrnn.base.errors import InputError
from textrnn.config.schema import LISTS_OF_TEXTS, Config, LauncherConfig

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel `conf/` is inside the package; in a checkout it is at the top.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
GROUPS = ("model", "data", "trainer", "tracking", "objective", "experiment")

# The only keys of Hydra that may be set: the launcher's, for clusters.
_HYDRA_KEYS = re.compile(r"hydra/launcher|hydra\.launcher\.[\w.-]+")

_FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\(.*\)")
# One of the values between commas; a comma between quotes is not a separator.
_ELEMENT = re.compile(r"""\s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|[^,]+""")


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides with Hydra's parser; raise `InputError` for one that it can't read."""
    parser = OverridesParser.create(config_loader=_Groups())  # type: ignore[arg-type]  # all that it is asked for
    parsed = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            key, equals, _ = text.partition("=")
            if not equals:
                raise InputError(f"{text!r} is not an override; type KEY=VALUE or GROUP=NAME.") from error
            raise InputError(
                f"{text!r} is not an override: its value can't be read; put quotes around each text in it, and others "
                f"around all for the shell, such as '{key}=\"A TEXT\"'."
            ) from error
    return parsed


class _Groups:
    """Stands for Hydra's loader, which `glob(...)` asks for a group's files."""

    def get_group_options(self, group_name: str, results_filter: object = None) -> list[str]:  # noqa: ARG002
        """Return the names of the group's files; none for a key."""
        return _options(group_name)


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml")) if group in GROUPS else []


def quote_texts(argv: Sequence[str]) -> list[str]:
    """Return a command line with quotes around texts that Hydra couldn't read, such as `data.path=~/reviews #2.csv`.

    Only values of text keys that Hydra can't read are quoted: a comma still separates the values of -m, and Hydra's
    functions such as `choice(...)` are unchanged.
    """
    return [_quoted(text) for text in argv]


def _quoted(text: str) -> str:
    key, equals, value = text.partition("=")
    name = key.lstrip("+")
    is_list = name in LISTS_OF_TEXTS and value.startswith("[")
    takes_text = key == "experiment" or (takes_texts(name) and not is_list)
    if not equals or not takes_text or _can_be_read(text) or _FUNCTION.fullmatch(value):
        return text
    elements = _ELEMENT.findall(value)
    if ",".join(elements) != value:  # a comma with nothing on one side
        elements = [value]
    return f"{key}={','.join(map(_quoted_element, elements))}"


def takes_texts(key: str) -> bool:
    """Return whether the values of a key are texts."""
    return key in LISTS_OF_TEXTS or schema_keys().get(key) in (str, str | None)


def _quoted_element(element: str) -> str:
    if _can_be_read(f"x={element}"):
        return element
    quoted: str = QuotedString(text=element.strip(), quote=Quote.single).with_quotes()
    return quoted


def _can_be_read(text: str) -> bool:
    try:
        parse_overrides([text])
    except InputError:
        return False
    return True


def check_override(override: Override, multirun: bool) -> None:
    """Refuse an override that is invalid in every configuration."""
    text, key = str(override.input_line), override.key_or_group
    if override.is_delete():
        raise InputError(f"{text}: keys can't be removed; type {key}=null or another value.")
    if "${hydra:" in text:
        raise InputError(f"{text}: there is no ${{hydra:...}} here, as Hydra owns no directory; type a value.")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        if not _HYDRA_KEYS.fullmatch(key) or "_target_" in text:
            raise InputError(f"{text}: of Hydra's own keys only hydra/launcher and hydra.launcher.* can be set.")
        _check_launcher(override)
        return
    if override.package is not None:
        raise InputError(f"{text}: a group can't be moved to another place; type {key}=NAME.")
    if key in GROUPS and not isinstance(override.value(), dict):
        _check_group(override)
    else:
        check_key(key)
    if override.is_sweep_override() and not multirun:
        raise InputError(
            f"{text} names several values; type -m to run them all, [..] for a list, or {key}='\"A, B\"' for a text."
        )
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise InputError(f"{text}: this range has no single values to run; list the values.")
    if override.is_sweep_override() and not list(override.sweep_string_iterator()):
        raise InputError(
            f"{text} names no value; {nearest('', _options(key)) if key in GROUPS else 'list the values.'}"
        )


def _check_launcher(override: Override) -> None:
    key, value = override.key_or_group, override.value()
    if key == "hydra/launcher" and value not in ("slurm", "basic"):
        raise InputError(f"hydra/launcher={value}: there is no such launcher; there are slurm, basic.")
    known = [item.name for item in fields(LauncherConfig)]
    if key.startswith("hydra.launcher.") and key.split(".")[2] not in known:
        raise InputError(f"there is no key {key}; {nearest(key.split('.')[2], known)}")


def is_experiment_file(name: object) -> bool:
    """Return whether a value of `experiment` names a file outside `conf/experiment/`."""
    return isinstance(name, str) and ("/" in name or name.endswith((".yaml", ".yml")))


def _check_group(override: Override) -> None:
    group = override.key_or_group
    options = _options(group)
    if override.is_sweep_override() and override.is_discrete_sweep():
        names = [str(name) for name in override.sweep_string_iterator()]
    else:
        names = [str(override.value())]
    for name in names:
        if group == "experiment" and (name in ("None", "null") or is_experiment_file(name)):
            continue
        if name not in options:
            raise InputError(f"{group}={name}: there is no conf/{group}/{name}.yaml; {nearest(name, options)}")


def check_key(key: str) -> None:
    """Refuse a dotted key that the schema doesn't have; suggest the most similar one."""
    known = schema_keys()
    if key in known:
        return
    parts = key.replace("/", ".").split(".")
    depth = next(n for n in range(1, len(parts) + 1) if ".".join(parts[:n]) not in known)
    parent = ".".join(parts[: depth - 1])
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    if not siblings:
        raise InputError(f"{key}: {parent} holds a single value; type {parent}=VALUE.")
    if depth == 1:
        siblings += [group for group in GROUPS if group not in siblings]
    same_leaf = [name for name in known if name.rpartition(".")[2] == parts[-1]]
    close = difflib.get_close_matches(parts[depth - 1], [name.rpartition(".")[2] for name in siblings], n=1)
    if close:
        rest = ".".join(parts[depth:])
        guess = ".".join(part for part in (parent, close[0], rest) if part)
        hint = f"did you mean {guess if guess in known or guess in GROUPS else f'{parent}.{close[0]}'.strip('.')}?"
    elif same_leaf:
        hint = f"did you mean {same_leaf[0]}?"
    else:
        hint = (
            nearest(key, siblings)
            if depth == 1
            else f"{parent} has {', '.join(n.rpartition('.')[2] for n in siblings)}."
        )
    raise InputError(f"there is no key {key}; {hint}")


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint at the most similar choice, or a list of all if none is similar."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}."


@functools.cache  # called for each key of each composition
def schema_keys(section: Any = Config, prefix: str = "") -> Mapping[str, Any]:
    """Return every dotted key of the schema, sections included, with the type of its value."""
    found: dict[str, Any] = {}
    hints = get_type_hints(section)
    for item in fields(section):
        key = f"{prefix}{item.name}"
        found[key] = hints[item.name]
        if is_dataclass(hints[item.name]):
            found |= schema_keys(hints[item.name], f"{key}.")
    return found


def schema_leaves(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested values, down to the schema's single values, with their values."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and is_dataclass(schema_keys().get(key)):
            yield from schema_leaves(value, f"{key}.")
        else:
            yield key, value


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def typed_keys(override: Override, run: Config) -> list[str]:
    """Return the dotted keys of single values that `override` sets in a run with the configuration `run`.

    GROUP=NAME sets the keys in that file. It also resets the keys of any other file of the group whose values the run
    has: `trainer=gpu` replaces `trainer=cpu`.
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
    """Return each file's values of the group's own keys; none for the default file, which has all keys."""
    return {
        path.stem: dict(_own(group, path.read_text(encoding="utf-8"))) for path in (CONF_DIR / group).glob("*.yaml")
    }


def _own(group: str, text: str) -> Iterator[tuple[str, Any]]:
    values = yaml.safe_load(text)
    # Only the default file, which the others extend, has no defaults list.
    if values.pop("defaults", None) is not None:
        # A file that also sets keys of other sections has the group's own below the group's name.
        yield from schema_leaves(values.get(group, values), f"{group}.")
