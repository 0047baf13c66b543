"""Whether W&B has the run of a run directory, or refuses it, and what describes the run there."""

import contextlib
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.process import in_time
from textrnn.config.compose import load_config
from textrnn.config.schema import Config, TrackingConfig
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.wandb_internals import answer_errors
from textrnn.tracking.wandb_settings import is_trial, start_timeout

MAKING_TIMEOUT = 10.0
"""Seconds in which the server must make a run."""
DELETED = "previously created and deleted"
"""What W&B says of the id of a run that was deleted (wandb/wandb#4948)."""
SAME = ("created", "seed", "slurm_job")
"""What W&B's config must have of the identity: enough to tell runs apart that one variable has given the same id."""


def is_at_wandb(config: Config, identity: RunIdentity, run_dir: Path) -> bool:
    """Return whether W&B has this run already: one of its id, with what the identity says in its config.

    Raises:
        InputError: W&B's run of this id is another one.
        wandb.errors.Error, TimeoutError: W&B does not say.
    """
    import wandb

    path = "/".join(part for part in (*_place(config), identity.id) if part)
    wandb.setup(wandb.Settings(silent=True))  # it would print about the key
    seconds = start_timeout()
    try:
        found = in_time(lambda: wandb.Api(timeout=math.ceil(seconds)).run(path), seconds)
    except wandb.errors.CommError as error:
        if "Could not find run" not in str(error):
            raise
        return False
    if "t" not in found.rawconfig.get("_wandb", {}):  # a sweep has made it, and no client has started it yet
        return False
    if any(found.config.get(f"run.{name}") != getattr(identity, name) for name in SAME):
        remedy = (
            "start this agent where the trial's run directory is"
            if is_trial()
            else "unset WANDB_RUN_ID for a new run, or type run_dir=DIR resume=auto with the directory of that one"
        )
        raise InputError(
            f"tracking: W&B has a run {identity.id} already, and it is not the one in {run_dir}: {remedy}."
        )
    return True


def refuse_deleted(config: Config, identity: RunIdentity, run_dir: Path) -> None:
    """Refuse a run that was deleted in W&B; `is_at_wandb` has said that the run isn't there.

    The run is made there, as pending, which W&B refuses at once. `wandb.init` would hear the same refusal, and repeat
    the request until its time is up (wandb/wandb: `UpsertBucketRetryPolicy` in core/internal/clients/retry.go). A sweep
    makes its runs itself. What else W&B answers, the start of the run meets again.

    Raises:
        InputError: naming the command that uploads the run as a new one.
    """
    if is_trial():
        return
    import wandb

    entity, project = _place(config)

    def make() -> None:
        api = wandb.Api(timeout=math.ceil(MAKING_TIMEOUT))
        entity_of_account = entity or api.default_entity
        wandb.apis.public.Run.create(api, identity.id, project, entity_of_account, state="pending")

    try:
        in_time(make, MAKING_TIMEOUT)
    except answer_errors() as error:
        if DELETED in str(error):
            raise InputError(str(refusal(error, identity, run_dir))) from error


def _place(config: Config) -> tuple[str | None, str]:
    """Return the entity, None for the account's own, and the project of the W&B run."""
    # The agent says where its trials are, and the client obeys.
    tracking = TrackingConfig() if is_trial() else config.tracking
    return tracking.entity or os.environ.get("WANDB_ENTITY"), tracking.effective_project()


def refuse_another(config: Config, identity: RunIdentity, run_dir: Path) -> None:
    """Refuse WANDB_RUN_ID where W&B has another run of this id; says nothing where W&B does not answer.

    `WandbRun.start` refuses it too, but only after the reviews have been read.

    Raises:
        InputError: naming the id.
    """
    if "WANDB_RUN_ID" not in os.environ or is_trial():  # a sweep's ids are W&B's own
        return
    import wandb

    with contextlib.suppress(wandb.errors.Error, TimeoutError):  # the start of the W&B run meets it again
        is_at_wandb(config, identity, run_dir)


def reason_of(error: Exception) -> str:
    """Return the client's error on one line, without its advice about its own settings."""
    return " ".join(str(error).partition("\nConsider")[0].split())


def refusal(error: Exception, identity: RunIdentity, run_dir: Path) -> str | None:
    """Return the sentence about an error that will not heal; None if the server has not answered in time.

    The client retries until its time is up what may heal, and also 409, the answer about a run that was deleted.
    """
    reason = reason_of(error)
    if DELETED in reason:
        return (
            f"tracking: the run {identity.id} was deleted in W&B, and its id stays taken: restore it there, or type "
            f"tracking=offline and upload all of it as a new run by wandb sync --no-skip-online --id NEW "
            f"{shlex.quote(str(run_dir))}/wandb/*run-*"
        )
    if isinstance(error, TimeoutError) or re.search("[Tt]imed out|deadline exceeded|in time", reason):
        return None
    return (
        f"tracking: W&B refuses the run ({reason}): correct tracking.entity, tracking.project or the API key, or type "
        "tracking=offline."
    )


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
