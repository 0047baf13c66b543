"""What relies on the internals of W&B's client."""

import os
import signal
from pathlib import Path

import pytest
from doubles.tracked_runs import wandb_core

from textrnn.tracking.wandb_internals import answer_errors, leave_dead_service


@pytest.mark.parametrize("noticed", [False, True])
def test_a_service_that_has_died_is_left_without_a_zombie_or_its_exit_code(wandb_home: Path, noticed: bool) -> None:
    import wandb
    from wandb.sdk import wandb_setup

    run = wandb.init(project="films", mode="offline", settings=wandb.Settings(silent=True, console="off"))
    core = wandb_core(os.getpid())
    os.kill(core, signal.SIGKILL)
    if noticed:
        with pytest.raises(answer_errors()):
            run.status()
    leave_dead_service()  # the client would exit with the service's code where it has not noticed
    with pytest.raises(ChildProcessError):  # it has been waited for
        os.waitpid(core, os.WNOHANG)
    assert wandb_setup._singleton is None
