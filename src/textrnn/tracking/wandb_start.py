"""The start of a W&B run: a new one, or the one that the server has, with our settings."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textrnn.config.schema import Config
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.wandb_identity import flat, is_at_wandb, labels, labels_typed_since, refuse_deleted
from textrnn.tracking.wandb_settings import start_timeout, timeout

if TYPE_CHECKING:
    import wandb

FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run waits for its last uploads, unless WANDB_FINISH_TIMEOUT is set."""


def open_run(
    config: Config,
    identity: RunIdentity,
    run_dir: Path,
    *,
    mode: str,
    resume: bool,
    on_stop: Callable[[], None] | None,
) -> "wandb.Run":
    """Start a W&B run, or continue the one that the server has, whatever WANDB_RESUME says.

    Raises:
        InputError: W&B has a run of this id that is not this one.
    """
    if mode == "offline":
        return init_run(config, identity, run_dir, mode=mode, resume="allow" if resume else None, on_stop=on_stop)
    # Any other id is random, and new.
    may_be_there = resume or "WANDB_RUN_ID" in os.environ
    continued = may_be_there and is_at_wandb(config, identity, run_dir)
    if may_be_there and not continued:
        refuse_deleted(config, identity, run_dir)
    how: Literal["allow", "never"] = "allow" if continued else "never"
    return init_run(config, identity, run_dir, mode=mode, resume=how, on_stop=on_stop)


def init_run(
    config: Config,
    identity: RunIdentity,
    run_dir: Path,
    *,
    mode: str,
    resume: Literal["never", "allow"] | None,
    on_stop: Callable[[], None] | None,
) -> "wandb.Run":
    """Return the client's run with our settings, identity and labels; `resume` is the client's own argument."""
    import wandb

    tracking = config.tracking
    settings = wandb.Settings(
        silent=True,  # we report the important messages
        console="off",  # the console belongs to the progress bar; `follow` uploads train.log
        symlink=False,
        save_code=False,
        disable_code=True,
        # The client would record the repository of the working directory, which may be another project's.
        disable_git=True,
        git_commit=identity.git_commit,
        init_timeout=start_timeout(),
        finish_timeout=timeout("WANDB_FINISH_TIMEOUT", default=FINISH_TIMEOUT),
        finish_timeout_raises=True,
        # Otherwise W&B would send Ctrl-C. It is a function because the client copies its settings deeply, with a method
        # also the object of that method.
        stop_fn=None if on_stop is None else lambda: on_stop(),
    )
    wandb.setup(wandb.Settings(silent=True))  # the login prints before it reads the run's settings
    continued = resume == "allow" and mode == "online"
    # What is None here, the client takes from WANDB_ENTITY, WANDB_TAGS, WANDB_NOTES.
    return wandb.init(
        id=identity.id,
        resume=resume,
        project=tracking.effective_project(),
        entity=tracking.entity,
        **(labels_typed_since(tracking, run_dir) if continued else labels(tracking, identity)),
        dir=str(run_dir.resolve()),
        config=flat({**asdict(config), "run": identity.to_dict()}),
        mode="online" if mode == "online" else "offline",
        reinit="finish_previous",
        settings=settings,
    )
