"""Whether a run can go on: what is refused before anything of it is touched. Nothing here imports torch."""

from operator import attrgetter
from typing import TYPE_CHECKING

from textrnn.checks import differences
from textrnn.config import Config
from textrnn.data.store import Store
from textrnn.data.tokenizer import load_tokenizer
from textrnn.errors import InputError
from textrnn.experiment_files import as_override
from textrnn.tracking.rundir import RunDirectory

if TYPE_CHECKING:
    from textrnn.checkpoints import Checkpoint


def refuse_another_run(checkpoint: "Checkpoint", config: Config) -> None:
    """Refuses what can't change in a run that has begun.

    Raises:
        InputError: naming what changed and what it was.
    """
    before = checkpoint.config
    # How the recurrence is computed is no part of the model: the parameters are the same, and the numbers.
    changed = [f"model.{key}" for key in differences(before.model, config.model) if key != "implementation"]
    free = ("cache_dir", "eval_batch_size", "path")  # whether the reviews are the same is seen when they are there
    changed += [f"data.{key}" for key in differences(before.data, config.data) if key not in free]
    # The scores of the epochs so far, the best one's among them, are of the metric that they were chosen by.
    stopping = differences(before.early_stopping, config.early_stopping)
    changed += ["early_stopping.monitor"] if "monitor" in stopping else []
    changed += ["seed"] if before.seed != config.seed else []
    if changed:
        was = " ".join(as_override(key, attrgetter(key)(before)) for key in changed)
        raise InputError(
            f"resume: {', '.join(changed)} can't change in a run that has begun; type {was}, as it was in "
            f"{checkpoint.path.parent.parent}, or start a new run."
        )
    load_tokenizer(checkpoint.tokenizer_json)  # another spaCy would cut other words


def refuse_other_data(checkpoint: "Checkpoint", store: Store) -> None:
    """Refuses to go on with other reviews or another vocabulary.

    Raises:
        InputError: naming the splits that differ.
    """
    # With another vocabulary, which comes from the training reviews, all splits have other ids.
    same_words = store.tokenizer_json == checkpoint.tokenizer_json
    differing = store.differing(checkpoint.data) if same_words else ["train"]
    if differing:
        raise InputError(
            f"resume: these are not the reviews that {checkpoint.path.parent.parent} began with (those for "
            f"{' and '.join(differing)} differ); give the old ones by data.path, or start a new run."
        )


def refuse_less(checkpoint: "Checkpoint", config: Config) -> None:
    """Refuses to end a run before where it is already.

    Raises:
        InputError: saying how far it is.
    """
    trainer, run, epochs = config.trainer, checkpoint.path.parent.parent, checkpoint.epoch + 1
    if trainer.fast_dev_run:
        raise InputError(
            f"resume: trainer.fast_dev_run={str(trainer.fast_dev_run).lower()} tries a new run out, and can't go on "
            f"with {run}; type trainer.fast_dev_run=false, or another run_dir."
        )
    limits = (("max_epochs", trainer.max_epochs, epochs), ("max_steps", trainer.max_steps, checkpoint.global_step))
    for key, limit, reached in limits:
        if limit not in (None, -1) and limit < reached:
            raise InputError(
                f"resume: trainer.{key}={limit} is less than what {run} has come to (epoch {epochs}, step "
                f"{checkpoint.global_step}); type trainer.{key}={reached} or more, or start a new run."
            )


def refuse_to_begin_again(directory: RunDirectory) -> None:
    """Refuses to begin in a directory whose run has come further than a start that was killed before `last.ckpt`.

    `last.ckpt` is there from the first epoch's end on; `best.ckpt` may be a moment earlier.

    Raises:
        InputError: saying what is there.
    """
    from textrnn.tracking.metrics import surviving_rows
    from textrnn.tracking.summary import read_status

    status = read_status(directory.summary_json)
    had_an_epoch = any(row["epoch"] > 0 for row in surviving_rows(directory.metrics_csv))
    if status in ("finished", "stopped") or (directory.best_ckpt.is_file() and had_an_epoch):
        came_to = f"it is {status}" if status is not None else "it has trained for an epoch and more"
        raise InputError(
            f"resume: {directory.path} holds a run ({came_to}), but no checkpoints/last.ckpt to go on from; bring "
            "that back, or type another run_dir."
        )


def refuse_without_best(checkpoint: "Checkpoint") -> None:
    """Refuses to go on without the best weights so far: unless a later epoch beat them, the test would be of others.

    Raises:
        InputError: naming the file that is gone.
    """
    best = checkpoint.path.parent / checkpoint.best
    if checkpoint.best and not best.is_file():
        raise InputError(
            f"resume: {best} is gone, the best weights of the run so far; bring that back, or type another run_dir."
        )
