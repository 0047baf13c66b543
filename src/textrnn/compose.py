"""From a command line to checked `Config`s, before Hydra starts any job.

Hydra alone exits 1 on a typo, names no neighbour, and lets `+model.foo=3` through. So overrides are held against the
schema first, then composed by Hydra itself, and whatever it still finds becomes one sentence (`InputError`).
"""

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from textrnn.checks import check
from textrnn.config import Config
from textrnn.errors import InputError

_PACKAGE = Path(__file__).resolve().parent
# Inside the wheel `conf/` lies in the package; in a checkout it stands at the top.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
GROUPS = ("model", "data", "trainer", "tracking", "experiment")

# Hydra's own keys that may be typed: the launcher (for clusters), and what Lightning passes to the processes it starts.
_HYDRA_KEYS = re.compile(r"hydra/launcher|hydra\.launcher\.\w+|hydra\.run\.dir|hydra\.job\.name|hydra\.output_subdir")
# Classes that Hydra may instantiate; anything else would be code named from outside.
_HYDRA_TARGETS = re.compile(
    r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)"
    r"|hydra_plugins\.hydra_submitit_launcher\.submitit_launcher\.(Slurm|Local)Launcher"
)


@dataclass(kw_only=True, slots=True)
class CommandLine:
    """What was typed after `train.py`."""

    overrides: list[str]
    multirun: bool
    inspect: bool
    """--help, --cfg, --info and their like: Hydra prints and nothing runs."""


def register_schema() -> None:
    """Gives Hydra the typed schema that `conf/train.yaml` names first."""
    ConfigStore.instance().store(name="schema", node=Config)


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads flags and overrides with Hydra's own parser.

    Raises:
        InputError: for an unknown flag, or one that names files or code from outside.
    """
    parser = get_args_parser()
    parser.exit_on_error = False

    def refuse(message: str) -> None:
        raise InputError(f"{message}; overrides are typed as key=value, flags are listed by --hydra-help.")

    parser.error = refuse  # type: ignore[method-assign,assignment]
    try:
        arguments = parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; overrides are typed as key=value, flags are listed by --hydra-help.") from None
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            raise InputError(
                f"--{flag.replace('_', '-')} is not supported: configuration comes from conf/; "
                "put a recipe into conf/experiment/ and type experiment=NAME."
            )
    inspect = bool(
        arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    )
    return CommandLine(overrides=arguments.overrides, multirun=arguments.multirun, inspect=inspect)


def compose_jobs(command_line: CommandLine) -> list[Config]:
    """Composes and checks every job of a command line: one, or under -m one for each combination.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    parsed = _parse_overrides(command_line.overrides)
    for override in parsed:
        _check_override(override, command_line.multirun)
    if not command_line.multirun:
        return [compose(command_line.overrides)]
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [compose(job) for job in jobs]


def compose(overrides: Sequence[str]) -> Config:
    """Composes `conf/` with overrides into a checked `Config`.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    for override in _parse_overrides(overrides):
        _check_override(override, multirun=False)
    register_schema()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            composed = hydra_compose("train", overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_sentence(error)) from error
    _check_targets(OmegaConf.to_container(composed.hydra, resolve=False))
    return resolve(composed, overrides)


def resolve(composed: DictConfig, overrides: Sequence[str]) -> Config:
    """Turns what Hydra composed into a `Config`: resume=RUN merged in, unknown keys refused, values checked.

    Raises:
        InputError: for the first key or value that is wrong.
    """
    try:
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        container = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(_sentence(error)) from error
    assert isinstance(container, dict)
    for key in _leaves(container):
        _check_key(key)
    resumed = container.get("resume")
    if resumed not in (None, "auto"):
        container = _resumed(Path(str(resumed)), container, overrides)
    config = from_dict(container)
    check(config)
    return config


def from_dict(values: Mapping[Any, Any]) -> Config:
    """Builds a `Config` from plain nested values such as a run's `config.yaml`.

    Raises:
        InputError: for an unknown key or a value of the wrong type.
    """
    for key in _leaves(values):
        _check_key(key)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(dict(values))))
    except OmegaConfBaseException as error:
        raise InputError(_sentence(error)) from error
    assert isinstance(config, Config)
    return config


def load_config(path: Path) -> Config:
    """Reads a run's `config.yaml`.

    Raises:
        InputError: for a missing or unreadable file, an unknown key or a value of the wrong type.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"{path} can't be read as a run's configuration: {_first_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run's configuration.")
    return from_dict(values)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint at the closest choice, or a list of all when none is close."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}."


def schema_keys(section: Any = Config, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of the schema with the type of its value, sections included."""
    found: dict[str, Any] = {}
    hints = get_type_hints(section)
    for item in fields(section):
        key = f"{prefix}{item.name}"
        found[key] = hints[item.name]
        if is_dataclass(hints[item.name]):
            found |= schema_keys(hints[item.name], f"{key}.")
    return found


def _parse_overrides(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            raise InputError(f"{text!r} is not an override ({_first_line(error.__cause__ or error)}).") from error
    return parsed


def _check_override(override: Override, multirun: bool) -> None:
    """Refuses one override that no configuration could take."""
    text, key = str(override.input_line), override.key_or_group
    if override.is_delete():
        raise InputError(f"{text}: keys can't be removed; type {key}=null or another value.")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        if not _HYDRA_KEYS.fullmatch(key) or "_target_" in text:
            raise InputError(f"{text}: of Hydra's own keys only hydra/launcher and hydra.launcher.* can be set.")
        return
    if override.package is not None:
        raise InputError(f"{text}: groups keep their place; type {key}=NAME.")
    if key in GROUPS and not isinstance(override.value(), dict):
        _check_group(override)
    else:
        _check_key(key)
    if override.is_add() or override.is_force_add():
        raise InputError(f"{text}: every key is there already; type {text.lstrip('+')} without the +.")
    if override.is_sweep_override() and not multirun:
        raise InputError(f"{text} names several values; type -m to run them all, or [..] for a list.")
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise InputError(f"{text}: a range of this kind can't be run one by one; list the values.")


def _check_group(override: Override) -> None:
    group = override.key_or_group
    options = sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
    if override.is_sweep_override() and override.is_discrete_sweep():
        names = [str(name) for name in override.sweep_string_iterator()]
    else:
        names = [str(override.value())]
    for name in names:
        if name not in options and not (group == "experiment" and name in ("None", "null")):
            raise InputError(f"{group}={name}: there is no conf/{group}/{name}.yaml; {nearest(name, options)}")


def _check_key(key: str) -> None:
    """Refuses a dotted key that the schema doesn't have and names its neighbour."""
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


def _leaves(values: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and is_dataclass(schema_keys().get(key)):
            yield from _leaves(value, f"{key}.")
        else:
            yield key


def _check_targets(node: Any) -> None:
    """Refuses classes that configuration outside this program would have Hydra instantiate."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not _HYDRA_TARGETS.fullmatch(str(target)):
            raise InputError(f"_target_: {target} is refused: configuration can't name code to run.")
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            _check_targets(value)


def _resumed(run_dir: Path, typed: dict[Any, Any], overrides: Sequence[str]) -> dict[Any, Any]:
    """The configuration of `run_dir` with what was typed put over it."""
    if not run_dir.is_dir():
        raise InputError(
            f"resume={run_dir}: there is no such run directory; type resume=auto, or a directory of runs/."
        )
    if not (run_dir / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"resume={run_dir}: it holds no checkpoints/last.ckpt to continue from.")
    base = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(load_config(run_dir / "config.yaml"))))
    composed = OmegaConf.create(typed)
    for override in _parse_overrides(overrides):
        key = override.key_or_group
        if key == "experiment":
            raise InputError(
                f"resume={run_dir}: it keeps its own recipe; type the keys to change instead of experiment=."
            )
        if not key.startswith("hydra"):
            OmegaConf.update(base, key, OmegaConf.select(composed, key), merge=False)
    base.run_dir, base.resume = str(run_dir), str(run_dir)
    merged = OmegaConf.to_container(base)
    assert isinstance(merged, dict)
    return merged


def _sentence(error: BaseException) -> str:
    """One sentence from Hydra's or OmegaConf's error: the key, what is wrong, an example of what to type."""
    cause: BaseException = error
    while not isinstance(cause, OmegaConfBaseException) and cause.__cause__ is not None:
        cause = cause.__cause__
    message = _first_line(cause)
    key = getattr(cause, "full_key", None)
    if not key:
        return message
    if key not in schema_keys():
        try:
            _check_key(str(key))
        except InputError as unknown:
            return str(unknown)
    default = OmegaConf.select(OmegaConf.structured(Config), str(key))
    return (
        f"{key}: {message[:1].lower()}{message[1:]}; type for example {key}={'null' if default is None else default}."
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
