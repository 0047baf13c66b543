"""What an agent of W&B types for a trial that was pre-empted, read back as the trial's own settings.

W&B hands such a trial out by the command `resume`, with the run's whole config instead of the sweep's parameters. The
agent types all of it behind the program, in the words of Python's `str`: every setting (`trainer.max_time=None`), and
keys that are no settings (`run.id`, the client's own `_wandb`). Source: `_command_run` of the client's
`wandb_agent.py`; issues 4237 and 9143 of the client.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from textrnn.config.compose import load_config
from textrnn.config.experiment_files import as_override
from textrnn.config.overrides import GROUPS, parse_overrides, quote_texts, schema_keys
from textrnn.config.schema import leaves

IDENTITY = "run."
"""How the keys begin under which W&B's config has the run's identity."""


def read_back(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line with the trial's own values in Hydra's words, and the keys that are left out.

    Any command line is returned as it is, except that of an agent whose trial has begun before. There, only texts that
    mean a value of the trial's `config.yaml` are rewritten, and only keys of W&B's config are left out.

    Raises:
        InputError: the trial's `config.yaml` can't be read.
    """
    config_yaml = _config_yaml(argv)
    if config_yaml is None or not config_yaml.is_file():
        return list(argv), []
    own = {key: value for key, _, value in leaves(load_config(config_yaml))}
    of_wandb = _keys_of_wandb()
    kept, left_out = [], []
    for text in argv:
        key, equals, typed = text.lstrip("+").partition("=")  # ++ where the sweep's command says so
        if key in own and _means(typed, own[key]):
            kept.append(as_override(key, own[key]))
        elif equals and (key.startswith(IDENTITY) or key in of_wandb):
            left_out.append(key)
        else:
            kept.append(text)
    return kept, left_out


def _config_yaml(argv: Sequence[str]) -> Path | None:
    """Return where the configuration of an agent's trial is kept once it has begun; None outside of an agent."""
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if not sweep or not run:
        return None
    directory = Path("runs", sweep, run)
    for override in parse_overrides(quote_texts([text for text in argv if text.startswith("run_dir=")])):
        directory = Path(str(override.value()))
    return directory / "config.yaml"


def _keys_of_wandb() -> set[str]:
    """Return the keys of W&B's config that are no settings, by the file in which the agent keeps what it types."""
    parameters = Path(os.environ.get("WANDB_SWEEP_PARAM_PATH") or os.devnull)
    content = yaml.safe_load(parameters.read_text(encoding="utf-8")) if parameters.is_file() else {}
    return {"_wandb", *content} - set(schema_keys()) - set(GROUPS)


def _means(typed: str, value: Any) -> bool:
    """Return whether an agent types `value` so; a server may write 1.0 as 1."""
    if typed == str(value):
        return True
    try:
        return isinstance(value, float) and float(typed) == value
    except ValueError:
        return False
