"""From a command line to checked `Config`s, before any run starts.

Hydra alone exits 1 on a typo, suggests no similar key, and accepts `+model.foo=3`. So overrides are first checked
against the schema, then composed by Hydra, and an error of Hydra becomes one sentence (`InputError`).
"""

import argparse
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.checks import check
from textrnn.config.experiment_files import as_override, expand_experiment, expand_job
from textrnn.config.help import allowed
from textrnn.config.hydra_internals import TARGETS, BasicSweeper, get_args_parser
from textrnn.config.overrides import (
    CONF_DIR,
    check_key,
    check_override,
    first_line,
    parse_overrides,
    schema_keys,
    schema_leaves,
    typed_keys,
)
from textrnn.config.schema import Config, LauncherConfig, leaves

_INSPECTING = ("hydra_help", "cfg", "info", "shell_completion")
"""Flags with which Hydra only prints."""
_COMPLETION = re.compile(r"(install|uninstall|query)=(bash|fish|zsh)")


@dataclass(kw_only=True, slots=True)
class CommandLine:
    """The arguments of `train.py`."""

    argv: list[str]
    """As Hydra reads it: overrides, then flags; `experiment=FILE.yaml` is replaced by the keys of the file, and texts
    are quoted."""
    overrides: list[str]
    """`argv` without flags."""
    multirun: bool
    help: bool
    inspect: bool
    """Whether Hydra only prints: --cfg, --info and similar flags."""


def _register_schema() -> None:
    """Register the typed schemas of `conf/train.yaml` and `conf/hydra/launcher/slurm.yaml` with Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)
    ConfigStore.instance().store(group="hydra/launcher", name="slurm_schema", node=LauncherConfig)


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Parse flags and overrides with Hydra's parser; replace `experiment=FILE.yaml` by the keys in the file.

    Raises:
        InputError: for an unknown flag, one that names other configuration or code, or an unreadable experiment file.
    """
    # All keys exist, so that +key= and ++key= of Hydra are key=.
    argv = [text.lstrip("+") for text in expand_experiment(argv)]
    parser = get_args_parser()
    parser.exit_on_error = False

    def refuse(message: str) -> None:
        raise InputError(f"{message}; overrides are typed as key=value, flags are listed by --hydra-help.")

    # argparse offers no other way to turn a usage error into an exception.
    parser.error = refuse  # type: ignore[method-assign,assignment]
    try:
        arguments = parser.parse_intermixed_args(argv)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; overrides are typed as key=value, flags are listed by --hydra-help.") from None
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            raise InputError(
                f"{_flag(flag)} is not supported: configuration comes from conf/; "
                "put a recipe into conf/experiment/ and type experiment=NAME, or type experiment=FILE.yaml."
            )
    _check_flags(arguments)
    flags = list(argv)
    for override in arguments.overrides:
        flags.remove(override)
    return CommandLine(
        argv=[*arguments.overrides, *flags],
        overrides=[] if arguments.shell_completion else arguments.overrides,
        multirun=arguments.multirun,
        help=arguments.help,
        inspect=any(getattr(arguments, flag) for flag in _INSPECTING),
    )


def _check_flags(arguments: argparse.Namespace) -> None:
    """Refuse combinations of flags that Hydra would answer with a traceback, or leave out in silence."""
    modes = ("cfg", "info", "shell_completion", "run", "multirun")
    chosen = [_flag(mode) for mode in modes if getattr(arguments, mode)]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} can't be typed together; leave out all but one.")
    if (arguments.resolve or arguments.package is not None) and not (arguments.cfg or arguments.help):
        raise InputError(f"{_flag('resolve' if arguments.resolve else 'package')} needs --cfg; type --cfg job too.")
    if arguments.package not in (None, "_global_") and arguments.cfg == "job":
        check_key(arguments.package)
    if arguments.shell_completion:
        if len(arguments.overrides) != 1 or not _COMPLETION.fullmatch(arguments.overrides[0]):
            raise InputError("--shell-completion: type install, uninstall or query, such as install=bash.")
        if arguments.overrides[0].startswith("query=") and "COMP_LINE" not in os.environ:
            raise InputError("--shell-completion: query= is for the shell, which sets COMP_LINE; type install=bash.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def compose_jobs(command_line: CommandLine) -> list[Config]:
    """Compose and check every job of a command line: one, or with -m one for each combination.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    for override in parse_overrides(command_line.overrides):
        check_override(override, command_line.multirun)
        if command_line.multirun:
            _check_for_all_jobs(override)
    return [compose(job) for job in job_overrides(command_line)]


def _check_for_all_jobs(override: Override) -> None:
    """Check an override that must be the same for all jobs of -m."""
    text, key = override.input_line, override.key_or_group
    if key in ("run_dir", "resume") and override.is_sweep_override():
        raise InputError(f"{text}: the jobs of -m share one {key}; type one value.")
    if key == "resume" and override.value() not in (None, "auto"):
        raise InputError(
            f"{text}: -m resumes its own jobs only; type run_dir=PARENT resume=auto, or leave out -m for this run."
        )


def job_overrides(command_line: CommandLine) -> list[list[str]]:
    """Return the overrides of each job, in Hydra's order: one job, or with -m one for each combination."""
    if not command_line.multirun:
        return [command_line.overrides]
    (jobs,) = BasicSweeper.split_arguments(parse_overrides(command_line.overrides), max_batch_size=None)
    return [expand_job(job) for job in jobs]


def slurm_launcher(command_line: CommandLine) -> dict[str, Any] | None:
    """Return the settings of `hydra/launcher=slurm`, or None without that launcher.

    Raises:
        InputError: without -m, without submitit, without SLURM, or if jobs have different settings.
    """
    jobs = [[text for text in job if text.lstrip("+").startswith("hydra")] for job in job_overrides(command_line)]
    if any(job != jobs[0] for job in jobs):
        raise InputError("hydra.launcher: its keys apply to all jobs; type one value of each key.")
    if "hydra/launcher=slurm" not in jobs[0]:
        return None
    if not command_line.multirun:
        raise InputError("hydra/launcher=slurm is for the jobs of -m; type -m too, or use train.sbatch for one run.")
    if importlib.util.find_spec("submitit") is None:
        raise InputError(
            'hydra/launcher=slurm needs submitit; type pip install -c constraints.txt -e ".[slurm]", or leave it out.'
        )
    if shutil.which("sbatch") is None:
        raise InputError("hydra/launcher=slurm: there is no sbatch here; type it on a login node, or leave it out.")
    settings = OmegaConf.to_container(_composed(jobs[0]).hydra.launcher, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def compose(overrides: Sequence[str]) -> Config:
    """Compose `conf/` and overrides, and the configuration of resume=RUN, into a checked `Config`.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    composed = _composed(overrides)
    _check_targets(OmegaConf.to_container(composed.hydra, resolve=False))
    try:
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(_sentence(error)) from error
    assert isinstance(values, dict)
    resumed = values["resume"]
    if resumed not in (None, "auto"):
        values = _resumed(typed_path(str(resumed), f"resume={resumed}"), values, overrides)
    config = from_dict(values)
    check(config)
    return config


def _as_known(override: str) -> str:
    """Return an override without +, as all keys exist but those of a free mapping, which need ++."""
    override = override.lstrip("+")
    return f"++{override}" if override.startswith("hydra.launcher.additional_parameters.") else override


def _composed(overrides: Sequence[str]) -> DictConfig:
    for override in parse_overrides(overrides):
        check_override(override, multirun=False)
    _register_schema()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            typed = [_as_known(text) for text in overrides]
            return hydra_compose("train", overrides=typed, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_sentence(error)) from error


def from_dict(values: Mapping[Any, Any]) -> Config:
    """Build a `Config` from plain nested values, such as those of a run's `config.yaml` or checkpoint.

    Raises:
        InputError: for an unknown key or a value of the wrong type.
    """
    for key, _ in schema_leaves(values):
        check_key(key)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(dict(values))))
    except OmegaConfBaseException as error:
        raise InputError(_sentence(error)) from error
    assert isinstance(config, Config)
    return config


def load_config(path: Path) -> Config:
    """Read a run's `config.yaml`.

    Raises:
        InputError: for a missing or unreadable file, an unknown key or a value of the wrong type.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"{path} can't be read as a run's configuration: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run's configuration.")
    return from_dict(values)


def _check_targets(node: Any) -> None:
    """Refuse classes that Hydra would instantiate for a configuration from outside this program."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not TARGETS.fullmatch(str(target)):
            raise InputError(f"_target_: {target} is refused: configuration can't name code to run.")
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            _check_targets(value)


def _resumed(run_dir: Path, typed: dict[Any, Any], overrides: Sequence[str]) -> dict[Any, Any]:
    """Return the configuration of `run_dir`, changed by the overrides; its `last.ckpt` stands for it."""
    if run_dir.suffix == ".ckpt" and run_dir.is_file():
        if run_dir.name != "last.ckpt":
            raise InputError(f"resume={run_dir}: a run is resumed from its last.ckpt; type resume=RUN, its directory.")
        run_dir = Path(os.path.normpath(run_dir.parent / ".."))
    if not run_dir.is_dir():
        raise InputError(
            f"resume={run_dir}: there is no such run directory; type resume=auto, or a directory of runs/."
        )
    if not (run_dir / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"resume={run_dir}: it holds no checkpoints/last.ckpt to continue from.")
    other = typed["run_dir"]
    if other is not None and Path(other).resolve() != run_dir.resolve():
        raise InputError(
            f"resume={run_dir}: a run is resumed in its own directory, not in run_dir={other}; leave run_dir out, or "
            "leave resume out for a new run."
        )
    before = load_config(run_dir / "config.yaml")
    base = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(before)))
    composed = OmegaConf.create(typed)
    changed: list[str] = []
    for override in parse_overrides(overrides):
        if override.key_or_group == "experiment":
            raise InputError(
                f"resume={run_dir}: a resumed run keeps its experiment; type the keys to change instead of experiment=."
            )
        if override.key_or_group == "objective":
            if override.value() != before.objective:
                raise InputError(
                    f"resume={run_dir}: its objective is {before.objective}, which can't change in a run that has "
                    "begun; start a new run, with model.pretrained=RUN if it shall start from this one."
                )
        elif not override.key_or_group.startswith("hydra"):
            changed += typed_keys(override, before)
    for key in changed:
        OmegaConf.update(base, key, OmegaConf.select(composed, key), merge=False)
    base.run_dir, base.resume = str(run_dir), str(run_dir)
    merged = OmegaConf.to_container(base)
    assert isinstance(merged, dict)
    return merged


def _sentence(error: BaseException) -> str:
    """Return an error of Hydra or OmegaConf as one sentence: the key, what is wrong, an example of what to type."""
    cause: BaseException = error
    while not isinstance(cause, OmegaConfBaseException) and cause.__cause__ is not None:
        cause = cause.__cause__
    message = first_line(cause)
    key = getattr(cause, "full_key", None)
    if not key:
        return message
    known = {key: (item, default) for key, item, default in leaves(Config())}
    known |= {f"{_LAUNCHER}{name}": (item, default) for name, item, default in leaves(LauncherConfig())}
    if str(key) not in known:
        try:
            check_key(str(key))
        except InputError as unknown:
            return str(unknown)
        return f"{key} is a section; type {key}.KEY=VALUE."
    item, default = known[str(key)]
    example = f"type for example {as_override(str(key), default)}."
    if not isinstance(cause, ValidationError):
        return f"{key}: {message[:1].lower()}{message[1:]}; {example}"
    hints = {**schema_keys(), **{f"{_LAUNCHER}{name}": hint for name, hint in get_type_hints(LauncherConfig).items()}}
    value = _VALUE.search(message)
    typed = f"={value[1]}" if value is not None else "=null" if "not Optional" in message else ""
    return f"{key}{typed}: must be {_with_article(allowed(item, hints[str(key)]))}; {example}"


_LAUNCHER = "hydra.launcher."
_VALUE = re.compile(r"[Vv]alue '(.*)' (?:of type|is not)")
"""The value in OmegaConf's messages on wrong types."""


def _with_article(words: str) -> str:
    """Return what a value may be, as the end of "must be"."""
    articles = {"integer": "an ", "number": "a ", "list": "a ", "text": "a "}
    article = articles.get(words.replace(",", " ").split()[0], "")
    return article + words.replace("true, false", "true or false")


def run_hydra(command_line: CommandLine, program: str) -> int:
    """Let Hydra print for --cfg, --info and similar flags; return the exit code."""
    _register_schema()
    typed, sys.argv = sys.argv, [program, *command_line.argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")(lambda _: None)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exits.DONE if stop.code is None else exits.CRASH
    finally:
        sys.argv = typed
    return exits.DONE
