"""Checks of `tracking`: the tracker that it names, and the names that W&B would refuse later."""

import importlib.util
import os
import re
from collections.abc import Iterator

from textrnn.base.errors import InputError
from textrnn.config.schema import TRACKERS, TrackingConfig

REGISTRY = "wandb-registry-"
"""How the project of a W&B registry begins."""
_NAME = r"(?=\S)[^/\\#?%:\r\n]{1,128}"
_COLLECTION = re.compile(rf"(?:{_NAME}/)?{REGISTRY}{_NAME}/{_NAME}")
"""The client's rules (wandb 0.31: `sdk/artifacts/_validators.py`), without a default for the registry."""
LONGEST_RUN_ID = 128 - len("run--testaccuracy_by_length_table-abcdef")
"""Characters of a run's id that leave room for it in W&B's names of the run's tables."""


def check_tracking(tracking: TrackingConfig) -> None:
    """Check the tracker, and the names that go to it; ask no server.

    Raises:
        InputError: naming the key or the variable.
    """
    if tracking.mode in ("none", *TRACKERS) and tracking.watch is not None:
        raise InputError(
            f"tracking.watch sends histograms to W&B, which tracking={tracking.mode} doesn't use; type tracking=auto."
        )
    if tracking.registry is not None:
        _check_registry(tracking, tracking.registry)
    if tracking.mode in TRACKERS:
        _check_tracker(tracking.mode)
    if tracking.mode in ("none", "tensorboard"):
        return
    # Whatever the source of the name: W&B's server would refuse it only when the run starts.
    key = "tracking.project" if tracking.project else "WANDB_PROJECT"
    project = tracking.effective_project()
    if not project.strip() or len(project) > 128 or any(character in "/\\#?%:" for character in project):
        raise InputError(
            f"{key}={project!r}: a W&B project's name has 1 to 128 characters, none of them / \\ # ? % or :; an entity "
            "is typed as tracking.entity=NAME."
        )
    for key, name, most in _names(tracking):
        if not name.strip() or len(name) > most:
            raise InputError(f"{key}={name!r} has {len(name)} characters; type 1 to {most}, as W&B takes no other.")


def _check_registry(tracking: TrackingConfig, registry: str) -> None:
    if tracking.mode in ("none", *TRACKERS):
        raise InputError(
            f"tracking.registry links the model in W&B, which tracking={tracking.mode} doesn't use; type tracking=auto."
        )
    if not tracking.artifact:
        raise InputError("tracking.registry links the model artifact; type tracking.artifact=true, or leave it out.")
    if not _COLLECTION.fullmatch(registry):
        raise InputError(
            f"tracking.registry={registry}: that is no collection of a W&B registry; type {REGISTRY}NAME/COLLECTION or "
            f"ORGANIZATION/{REGISTRY}NAME/COLLECTION, such as {REGISTRY}model/imdb."
        )


def _check_tracker(name: str) -> None:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # the second: a folder of that name here
        raise InputError(
            f'tracking={name} is not installed here; type pip install "textrnn[{name}]", or tracking=none.'
        )
    for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        if name == "trackio" and os.environ.get(variable):
            raise InputError(
                f"tracking=trackio keeps runs on this machine, and {variable} names another place; unset {variable}."
            )


def _names(tracking: TrackingConfig) -> Iterator[tuple[str, str, int]]:
    """Yield the names that go to W&B, typed or from its variables: key, name, characters at most.

    The server refuses longer ones only when the run starts or, of an offline run, when it is synced (tags: W&B's
    client; job type: wandb#6402; the others: NVIDIA-NeMo/Skills#842). The run's id is part of its tables' names, of at
    most 128 characters too: the longest is `run-<id>-testaccuracy_by_length_table-<6 characters>`.
    """
    for key, variable, typed, most in (
        ("tracking.name", "WANDB_NAME", tracking.name, 128),
        ("tracking.group", "WANDB_RUN_GROUP", tracking.group, 128),
        ("tracking.job_type", "WANDB_JOB_TYPE", tracking.job_type, 64),
        ("tracking.entity", "WANDB_ENTITY", tracking.entity, 128),
        ("WANDB_RUN_ID", "WANDB_RUN_ID", None, LONGEST_RUN_ID),
    ):
        if name := typed or os.environ.get(variable):
            yield key if typed else variable, name, most
    variable = "tracking.tags" if tracking.tags else "WANDB_TAGS"
    for tag in tracking.tags or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]:
        yield variable, tag, 64
