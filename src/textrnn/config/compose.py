"""From a command line to checked `Config`s, before Hydra starts any job.

Hydra alone exits 1 on a typo, names no neighbour, and lets `+model.foo=3` through. So overrides are held against the
schema first, then composed by Hydra itself, and whatever it still finds becomes one sentence (`InputError`).
"""

import argparse
import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from textrnn.base import exits as exits
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.checks import check
from textrnn.config.experiment_files import expand_experiment
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
from textrnn.config.schema import Config, LauncherConfig

# Classes that Hydra may instantiate; anything else would be code named from outside.
_HYDRA_TARGETS = re.compile(r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)")


@dataclass(kw_only=True, slots=True)
class CommandLine:
    """What was typed after `train.py`."""

    argv: list[str]
    """As Hydra can read it: with the keys of `experiment=FILE.yaml` in its place, and texts quoted."""
    overrides: list[str]
    """`argv` without flags."""
    multirun: bool
    inspect: bool
    """--help, --cfg, --info and their like: Hydra prints and nothing runs."""


def register_schema() -> None:
    """Gives Hydra the typed schemas that `conf/train.yaml` and `conf/hydra/launcher/slurm.yaml` name first."""
    ConfigStore.instance().store(name="schema", node=Config)
    ConfigStore.instance().store(group="hydra/launcher", name="slurm_schema", node=LauncherConfig)


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads flags and overrides with Hydra's own parser; `experiment=FILE.yaml` becomes the keys in the file.

    Raises:
        InputError: for an unknown flag, one that names files or code from outside, or an experiment that can't be read.
    """
    argv = expand_experiment(argv)
    parser = get_args_parser()
    parser.exit_on_error = False

    def refuse(message: str) -> None:
        raise InputError(f"{message}; overrides are typed as key=value, flags are listed by --hydra-help.")

    # argparse offers no other way to keep a usage error from exiting.
    parser.error = refuse  # type: ignore[method-assign,assignment]
    try:
        arguments = parser.parse_args(argv)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; overrides are typed as key=value, flags are listed by --hydra-help.") from None
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            raise InputError(
                f"--{flag.replace('_', '-')} is not supported: configuration comes from conf/; "
                "put a recipe into conf/experiment/ and type experiment=NAME, or type experiment=FILE.yaml."
            )
    inspect = bool(
        arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    )
    return CommandLine(argv=argv, overrides=arguments.overrides, multirun=arguments.multirun, inspect=inspect)


def compose_jobs(command_line: CommandLine) -> list[Config]:
    """Composes and checks every job of a command line: one, or under -m one for each combination.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    for override in parse_overrides(command_line.overrides):
        check_override(override, command_line.multirun)
        if command_line.multirun:
            _check_for_all_jobs(override)
    return [compose(job) for job in job_overrides(command_line)]


def _check_for_all_jobs(override: Override) -> None:
    """Refuses under -m what one run alone can have."""
    text, key = override.input_line, override.key_or_group
    if key in ("run_dir", "resume") and override.is_sweep_override():
        raise InputError(f"{text}: the jobs of -m share one {key}; type one value.")
    if key == "resume" and override.value() not in (None, "auto"):
        raise InputError(
            f"{text}: -m goes on with its own jobs only; type run_dir=PARENT resume=auto, or leave out -m to go on "
            "with this run."
        )


def job_overrides(command_line: CommandLine) -> list[list[str]]:
    """Returns the overrides of each job, in Hydra's order: one job, or under -m one for each combination."""
    if not command_line.multirun:
        return [command_line.overrides]
    (jobs,) = BasicSweeper.split_arguments(parse_overrides(command_line.overrides), max_batch_size=None)
    return [list(job) for job in jobs]


def slurm_launcher(command_line: CommandLine) -> dict[str, Any] | None:
    """The settings of `hydra/launcher=slurm`, if that is typed.

    Raises:
        InputError: where they can't be used: without -m, without submitit, without SLURM, or not the same for all jobs.
    """
    jobs = [[text for text in job if text.lstrip("+").startswith("hydra")] for job in job_overrides(command_line)]
    if any(job != jobs[0] for job in jobs):
        raise InputError("hydra.launcher: what is typed holds for all jobs; type one value of each key.")
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
    """Composes `conf/` with overrides into a checked `Config`.

    Raises:
        InputError: for the first key, group or value that is wrong.
    """
    composed = _composed(overrides)
    _check_targets(OmegaConf.to_container(composed.hydra, resolve=False))
    return resolve(composed, overrides)


def _composed(overrides: Sequence[str]) -> DictConfig:
    for override in parse_overrides(overrides):
        check_override(override, multirun=False)
    register_schema()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            return hydra_compose("train", overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_sentence(error)) from error


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
    for key, _ in schema_leaves(container):
        check_key(key)
    resumed = container.get("resume")
    if resumed not in (None, "auto"):
        container = _resumed(typed_path(str(resumed), f"resume={resumed}"), container, overrides)
    config = from_dict(container)
    check(config)
    return config


def from_dict(values: Mapping[Any, Any]) -> Config:
    """Builds a `Config` from plain nested values such as a run's `config.yaml`.

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


_MODEL_OF_OLDER_RUNS = {"adversarial": 0.0}
"""What a run did whose record doesn't say, where it is not today's default: resumed, it goes on as it began."""


def from_record(values: Mapping[Any, Any]) -> Config:
    """Builds a `Config` from what a run has recorded of it, in `config.yaml` or a checkpoint, maybe long ago.

    Raises:
        InputError: for an unknown key or a value of the wrong type.
    """
    model = values.get("model")
    return from_dict({**values, "model": {**_MODEL_OF_OLDER_RUNS, **model}} if isinstance(model, Mapping) else values)


def load_config(path: Path) -> Config:
    """Reads a run's `config.yaml`.

    Raises:
        InputError: for a missing or unreadable file, an unknown key or a value of the wrong type.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"{path} can't be read as a run's configuration: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run's configuration.")
    return from_record(values)


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
    before = load_config(run_dir / "config.yaml")
    base = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(before)))
    composed = OmegaConf.create(typed)
    changed: list[str] = []
    for override in parse_overrides(overrides):
        if override.key_or_group == "experiment":
            raise InputError(
                f"resume={run_dir}: it keeps its own recipe; type the keys to change instead of experiment=."
            )
        if not override.key_or_group.startswith("hydra"):
            changed += typed_keys(override, before)
    for key in changed:
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
    message = first_line(cause)
    key = getattr(cause, "full_key", None)
    if not key:
        return message
    if str(key).startswith("hydra.launcher."):
        default = getattr(LauncherConfig(), str(key).split(".")[2])
    elif key in schema_keys():
        default = OmegaConf.select(OmegaConf.structured(Config), str(key))
    else:
        try:
            check_key(str(key))
        except InputError as unknown:
            return str(unknown)
        default = None
    return (
        f"{key}: {message[:1].lower()}{message[1:]}; type for example {key}={'null' if default is None else default}."
    )


def run_hydra(command_line: CommandLine, program: str) -> int:
    """Let Hydra print what --help, --cfg, --info and their like ask for; return the exit code."""
    register_schema()
    typed, sys.argv = sys.argv, [program, *command_line.argv]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")(lambda _: None)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exits.DONE if stop.code is None else exits.CRASH
    finally:
        sys.argv = typed
    return exits.DONE
