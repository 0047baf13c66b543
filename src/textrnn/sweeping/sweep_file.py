"""Read a sweep file and check its form, its command and its metric; `checks.py` checks its values."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from textrnn.base.errors import InputError
from textrnn.config.overrides import check_override, first_line, nearest, parse_overrides, quote_texts
from textrnn.sweeping.metric import Metric, metrics_of

KEYS = (
    *("program", "command", "method", "metric", "metrics", "parameters", "early_terminate", "run_cap"),
    *("name", "description", "project", "entity", "scheduler", "seed"),
)
METHODS = ("grid", "random", "bayes")
ENGINES = ("wandb", "optuna")
"""Engines that propose settings on this machine; `scheduler:` names one."""
CODE = ("source", "optimizer", "search_space")
"""Keys of `scheduler:` that name Python code."""
ARGUMENTS = ("${args_no_hyphens}", "${args_append_hydra}", "${args_override_hydra}")
"""Macros that W&B's agent replaces by the parameters as key=value, +key=value or ++key=value; `train.py` reads all."""
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
"""Macro that the agent replaces by an environment variable (`create_sweep_command` of the client)."""
ELSEWHERE = {
    "controller": "W&B's server proposes the trials, without an account W&B's engine on this machine; leave it out",
    **dict.fromkeys(
        ("job", "image_uri", "resource", "resource_args"),
        "it is for W&B Launch, which sweep.py doesn't use; write program: and command: instead",
    ),
}
"""Keys of W&B's format for other ways to run a sweep, with what to do."""
PROGRAM = "${program}"
NUMBERS = ("min", "max", "q", "mu", "sigma", "a", "b")
OWN_KEYS = ("run_dir",)
"""Keys that each trial has for itself: they can be neither fixed nor swept."""


@dataclass(kw_only=True, slots=True)
class Sweep:
    """A sweep file of the right form, with the overrides typed beside it."""

    path: Path
    config: dict[str, Any]
    """The file's content with the typed overrides in its command: itself a sweep file."""
    prefix: list[str]
    """The command up to the program."""
    fixed: list[str]
    """Overrides of all trials, with environment variables filled in."""
    metrics: list[Metric]
    """The first one ranks; only Optuna takes others."""
    typed: list[str] = field(default_factory=list)
    """Those of `fixed` that were typed beside the file."""

    @property
    def metric(self) -> Metric | None:
        """The metric that ranks, if the file has one."""
        return self.metrics[0] if self.metrics else None

    @property
    def search(self) -> str:
        """What proposes settings: W&B's grid, random or bayes, or optuna."""
        return "optuna" if self.config.get("scheduler", {}).get("engine") == "optuna" else str(self.config["method"])

    @property
    def seed(self) -> int | None:
        """Seed of a search on this machine; None: another search each time."""
        seed: int | None = self.config.get("seed")
        return seed

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Specification of each swept key."""
        parameters: dict[str, dict[str, Any]] = self.config["parameters"]
        return parameters

    @property
    def cap(self) -> int | None:
        """Maximum number of trials; None for a whole grid."""
        cap: int | None = self.config.get("run_cap")
        return cap

    def varied(self) -> list[str]:
        """Return the parameters that have more than one value."""
        return [
            name
            for name, specification in self.parameters.items()
            if "value" not in specification and len(specification.get("values", (0, 1))) > 1
        ]


def read_sweep(path: Path, typed: Sequence[str] = (), count: int | None = None, seed: int | None = None) -> Sweep:
    """Read a sweep file.

    Args:
        path: The file.
        typed: Overrides of all trials.
        count: Maximum number of trials, instead of the file's `run_cap`.
        seed: Seed of the search, instead of the file's.

    Raises:
        InputError: for a file that can't be read, or the first mistake in it.
    """
    try:
        given = {"run_cap": count, "seed": seed}
        config = _load(path) | {key: value for key, value in given.items() if value is not None}
        return _sweep(path, config, typed)
    except InputError as error:
        sentence = str(error)
        raise InputError(sentence if str(path) in sentence else f"{path}: {sentence}") from error


def added_settings(given: Sweep, begun: Sweep) -> int:
    """Return how many settings a grid has gained by more values of its parameters; 0 where it differs otherwise."""
    if given.search != "grid" or list(given.parameters) != list(begun.parameters):
        return 0
    grids = [
        [[each["value"]] if "value" in each else each["values"] for each in sweep.parameters.values()]
        for sweep in (given, begun)
    ]
    if any(value not in values for values, before in zip(*grids, strict=True) for value in before):
        return 0
    sizes = [math.prod(map(len, grid)) for grid in grids]
    return sizes[0] - sizes[1]


def _load(path: Path) -> dict[str, Any]:
    """Return the file's content without helper keys: unknown ones that only hold an anchor for the others."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path} can't be read ({reason}); name a sweep file such as sweeps/smoke.yaml.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise InputError(
            f"{path} is not YAML{where} ({getattr(error, 'problem', None) or first_line(error)})."
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a sweep file: it needs method: and parameters:, as sweeps/smoke.yaml has.")
    helpers = _anchored(text) - {*KEYS, *ELSEWHERE}
    return {key: value for key, value in config.items() if key not in helpers}


def _anchored(text: str) -> set[str]:
    """Return the top-level keys whose values have a YAML anchor."""
    found: set[str] = set()
    key, depth = None, 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if depth == 1 and key is None and isinstance(event, yaml.ScalarEvent):
            key = str(event.value)
            continue
        if key is not None and isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.anchor:
            found.add(key)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        key = None if depth == 1 else key  # its value is complete
    return found


def _sweep(path: Path, config: dict[str, Any], typed: Sequence[str]) -> Sweep:
    for key in config:
        if key in ELSEWHERE:
            raise InputError(f"{key}: {ELSEWHERE[key]}.")
        if key not in KEYS:
            raise InputError(f"there is no key {key} in a sweep file; {nearest(str(key), KEYS)}")
    _check_scheduler(config)
    for key in ("method", "parameters", "program", "command"):
        if key not in config:
            raise InputError(f"{key}: is missing; sweeps/smoke.yaml shows what it looks like.")
    _check_names(config)
    config["parameters"] = _flat(config["parameters"])
    _check_parameters(config["parameters"])
    prefix, fixed, arguments = _command(config, typed)
    seed = config.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise InputError(f"seed: {seed} is not a seed of the search; write a whole number from 0.")
    cap = config.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        raise InputError(f"run_cap: {cap} is not a number of trials; write a whole number from 1.")
    config["command"] = [*prefix, *fixed, arguments]
    sweep = Sweep(
        path=path,
        config=config,
        prefix=[_filled(part) for part in prefix],
        fixed=[_read(text) for text in fixed],
        metrics=metrics_of(config),
        typed=list(typed),
    )
    if cap is None and sweep.search != "grid":
        raise InputError(f"method: {sweep.search} never ends by itself; type --count N or write run_cap: N.")
    if len(sweep.metrics) > 1 and sweep.search != "optuna":
        raise InputError("metrics: W&B's engine takes one metric; write scheduler: with engine: optuna for several.")
    return sweep


def _check_scheduler(config: dict[str, Any]) -> None:
    """Check what proposes settings; with Optuna `method:` says nothing and may be missing."""
    scheduler = config.get("scheduler", {"engine": "wandb"})
    if not isinstance(scheduler, dict) or scheduler.get("engine") not in ENGINES:
        raise InputError(
            f"scheduler: {scheduler!r} is not run by sweep.py; write engine: {' or engine: '.join(ENGINES)} below it."
        )
    for key in scheduler:
        if key in CODE:
            raise InputError(f"scheduler: {key}: names code to run, which a sweep file can't; leave it out.")
        if key != "engine":
            raise InputError(f"scheduler: there is no key {key}; {nearest(str(key), ('engine',))}")
    known: tuple[str, ...] = METHODS
    if scheduler["engine"] == "optuna":
        known = (*METHODS, "custom")
        config.setdefault("method", "custom")
    else:
        config.pop("scheduler", None)  # with it, W&B would wait for a scheduler that somebody starts
    method = config.get("method", METHODS[0])
    if method == "custom" and "custom" not in known:
        raise InputError("method: custom needs something that proposes; write scheduler: with engine: optuna.")
    if method not in known:
        raise InputError(f"method: {method} is not known; write {', '.join(METHODS[:-1])} or {METHODS[-1]}.")


def _flat(parameters: Any, prefix: str = "") -> Any:
    """Return parameters with dotted names in place of nested ones, which a run's command line doesn't have.

    Raises:
        InputError: for other keys beside a nested `parameters:`, or a name that is there twice.
    """
    if not isinstance(parameters, dict):
        return parameters
    flat: dict[str, Any] = {}
    for name, specification in parameters.items():
        key = f"{prefix}{name}"
        inner = {key: specification}
        if isinstance(specification, dict) and isinstance(specification.get("parameters"), dict):
            if others := [other for other in specification if other != "parameters"]:
                raise InputError(f"parameter {key}: {others[0]}: can't stand beside nested parameters:; leave it out.")
            inner = _flat(specification["parameters"], f"{key}.")
        if twice := flat.keys() & inner.keys():
            raise InputError(f"parameter {min(twice)}: is there twice; leave one out.")
        flat |= inner
    return flat


def _check_names(config: Mapping[str, Any]) -> None:
    for key in ("name", "description", "project", "entity", "program"):
        value = config.get(key)
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise InputError(f"{key}: {value!r} is not a name; write a text or leave the line out.")
    for key in ("project", "entity"):
        if set(str(config.get(key) or "")) & set("/\\#?%:"):
            raise InputError(f"{key}: {config[key]!r} can't be a name at W&B; leave out / \\ # ? % and :.")


def _check_parameters(parameters: Any) -> None:
    if not isinstance(parameters, dict) or not parameters:
        raise InputError("parameters: must name at least one key of a run, such as optimizer.lr, with its values.")
    for name, specification in parameters.items():
        if not re.fullmatch(r"[A-Za-z_][\w.-]*", str(name)):
            raise InputError(f"parameter {name}: is not a key of a run; write a dotted name such as optimizer.lr.")
        if not isinstance(specification, dict):
            raise InputError(f"parameter {name}: {specification!r} is not a choice; write values: [..] below it.")
        for key in NUMBERS:
            bound = specification.get(key)
            if key in specification and (isinstance(bound, bool) or not isinstance(bound, int | float)):
                raise InputError(
                    f"parameter {name}: {key}: {bound!r} is not a number in YAML; write it as {_number(bound)}."
                )
        for key in ("values", "probabilities"):
            if key in specification and not (isinstance(specification[key], list) and specification[key]):
                raise InputError(f"parameter {name}: {key}: must be a list such as [1, 2].")


def _number(bound: Any) -> str:
    """Return how to write a number such as 1e-4, which YAML reads as a text."""
    try:
        mantissa, _, exponent = f"{float(bound):.6e}".partition("e")
    except (TypeError, ValueError):
        return "0.001"
    return f"{float(mantissa)}e{int(exponent):+d}"


def _command(config: Mapping[str, Any], typed: Sequence[str]) -> tuple[list[str], list[str], str]:
    """Return the command up to the program, the overrides of all trials, those typed last, and the parameters' macro.

    Environment variables stay macros: an agent fills in its own machine's.
    """
    command = config["command"]
    if not isinstance(command, list) or PROGRAM not in command:
        raise InputError(
            f"command: must be a list of ${{env}}, ${{interpreter}}, {PROGRAM}, what all trials share, "
            f"and {ARGUMENTS[0]}."
        )
    parts = [str(part) for part in command]
    at = parts.index(PROGRAM) + 1
    arguments = [part for part in parts[at:] if part.startswith("${args")]
    if len(arguments) != 1 or arguments[0] not in ARGUMENTS:
        raise InputError(
            f"command: {' and '.join(arguments) or 'no macro'} after {PROGRAM} types the parameters so that train.py "
            f"reads them; write {ARGUMENTS[0]} once."
        )
    chosen: dict[str, str] = {}
    for where, texts in (("command", [part for part in parts[at:] if part not in arguments]), ("", typed)):
        for text in texts:
            try:
                (override,) = parse_overrides([_read(text)])
                check_override(override, multirun=False)
                _refuse_own(override, config["parameters"])
            except InputError as error:
                raise InputError(f"{where}: {error}".removeprefix(": ")) from error
            chosen.pop(override.key_or_group, None)
            chosen[override.key_or_group] = text
    if chosen.get("resume") != "resume=auto":
        raise InputError("command: needs resume=auto, so that the command of an interrupted trial continues it.")
    return parts[:at], list(chosen.values()), arguments[0]


def _read(text: str) -> str:
    """Return an override as `train.py` reads it."""
    (quoted,) = quote_texts([_filled(text).lstrip("+")])
    return quoted


def _filled(text: str) -> str:
    """Return a part of the command with this machine's environment variables; unset ones would arrive as their names.

    Raises:
        InputError: one isn't set.
    """
    for name in ENVIRONMENT.findall(text):
        if name not in os.environ:
            raise InputError(f"{text}: the environment variable {name} is not set here; export it, or write its value.")
    return ENVIRONMENT.sub(lambda found: os.environ[found[1]], text)


def _refuse_own(override: Override, parameters: Mapping[str, Any]) -> None:
    """Refuse an override of all trials for a key that each trial has for itself."""
    key = override.key_or_group
    if key in parameters:
        raise InputError(f"{override.input_line}: the sweep varies {key}; leave it out here or among its parameters.")
    if key in OWN_KEYS:
        raise InputError(f"{override.input_line}: each trial has its own {key}, runs/SWEEP/TRIAL; leave it out.")
