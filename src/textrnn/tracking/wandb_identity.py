"""Whether W&B's run of an id is the one in a run directory, what it is called there, and whether it was taken."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.process import in_time
from textrnn.config.compose import load_config
from textrnn.config.schema import Config, TrackingConfig
from textrnn.tracking.identity import RunIdentity

ANSWER_TIMEOUT = 10
"""Seconds in which the server must tell what it has of a run."""


def is_at_wandb(config: Config, identity: RunIdentity, run_dir: Path) -> bool:
    """Return whether W&B has this run already: one of its id, with its identity in the config.

    Raises:
        InputError: W&B's run of this id is another one.
        wandb.errors.Error, TimeoutError: W&B does not say.
    """
    import wandb

    of_sweep = "WANDB_SWEEP_ID" in os.environ  # the agent says where its trials are, and the client obeys
    tracking = TrackingConfig() if of_sweep else config.tracking
    entity = tracking.entity or os.environ.get("WANDB_ENTITY")
    path = "/".join(part for part in (entity, tracking.effective_project(), identity.id) if part)
    wandb.setup(wandb.Settings(silent=True))  # it would print about the key
    try:
        found = in_time(lambda: wandb.Api(timeout=ANSWER_TIMEOUT).run(path), ANSWER_TIMEOUT)
    except wandb.errors.CommError as error:
        if "Could not find run" not in str(error):
            raise
        return False
    if "t" not in found.rawconfig.get("_wandb", {}):  # a sweep has made it, and no client has started it yet
        return False
    if any(found.config.get(key) != value for key, value in flat({"run": identity.to_dict()}).items()):
        raise InputError(
            f"tracking: W&B has a run {identity.id} already, and it is not the one in {run_dir}: unset WANDB_RUN_ID "
            "for a new run, or type run_dir=DIR resume=auto with the directory of that one."
        )
    return True


def has_timed_out(error: Exception) -> bool:
    """Return whether the server has not answered in time; the client retries until then what may heal."""
    return isinstance(error, TimeoutError) or bool(re.search("timed out|deadline exceeded|in time", str(error)))


def labels(tracking: TrackingConfig, identity: RunIdentity) -> dict[str, Any]:
    """Return what describes a run to people."""
    return {
        "name": identity.name,
        "group": identity.group,
        "job_type": tracking.job_type or os.environ.get("WANDB_JOB_TYPE") or "train",
        "tags": tracking.tags or None,
        "notes": tracking.notes,
    }


def labels_typed_since(tracking: TrackingConfig, run_dir: Path) -> dict[str, Any]:
    """Return the labels that were typed since the run began; the others are empty, so W&B's own stay.

    People rename and tag runs in the browser.
    """
    config_yaml = run_dir / "config.yaml"
    before = load_config(config_yaml).tracking if config_yaml.is_file() else tracking
    unsaid: dict[str, Any] = {"name": "", "group": "", "job_type": "", "tags": (), "notes": ""}
    changed = {key: getattr(tracking, key) for key in unsaid if getattr(tracking, key) != getattr(before, key)}
    return unsaid | {key: value for key, value in changed.items() if value is not None}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to the keys of the command line, such as `optimizer.lr`.

    A sweep locks the keys that it sets: `model`, a choice of file, would keep the whole model out of W&B's config.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found
