"""Whether limits that count batches fit the reviews that there are; Lightning would say so in a traceback, or late."""

import math

from textrnn.config import Config
from textrnn.data.store import Store
from textrnn.errors import InputError


def check_batches(config: Config, store: Store) -> None:
    """Refuse a share of a split's batches that comes to none, and a validation that no epoch would reach.

    Raises:
        InputError: with the number of batches that there are.
    """
    trainer = config.trainer
    if trainer.fast_dev_run:
        return
    train, evaluation = config.data.batch_size, config.data.effective_eval_batch_size()
    limits = [("limit_train_batches", "train"), ("limit_val_batches", "validation")]
    counts = {"train": _batches(store, "train", train), "validation": _batches(store, "validation", evaluation)}
    if config.test:
        counts["test"] = _batches(store, "test", evaluation)
        limits.append(("limit_test_batches", "test"))
    if trainer.overfit_batches:
        limits = [("overfit_batches", "train"), ("overfit_batches", "validation"), *limits[2:]]
    for key, split in limits:
        limit = getattr(trainer, key)
        if isinstance(limit, float) and 0 < limit < 1 and int(limit * counts[split]) == 0:
            raise InputError(
                f"trainer.{key}={limit}: of the {counts[split]} {split} batches that is not even one; type the number "
                "of batches (integer) or a larger share."
            )
    every, whole_epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch is not None
    if config.data.segment_size is not None:
        _refuse_in_segments("limit_train_batches", trainer.limit_train_batches, share=True)
        if whole_epochs:
            _refuse_in_segments("val_check_interval", every, share=False)
    training = _limited(counts["train"], trainer.overfit_batches or trainer.limit_train_batches)
    # Without check_val_every_n_epoch, Lightning counts over epochs.
    if isinstance(every, int) and whole_epochs and every > training > 0:
        raise InputError(
            f"trainer.val_check_interval={every}: an epoch has {training} training batches; type {training} or less, "
            "or trainer.check_val_every_n_epoch=null to count over epochs."
        )


def _refuse_in_segments(key: str, value: float | None, *, share: bool) -> None:
    """Refuse what the last segment of a pass over the reviews, which may have a single batch, can't have."""
    if share and isinstance(value, float) and 0 < value < 1:
        raise InputError(
            f"trainer.{key}={value}: with data.segment_size a pass's last segment may have a single batch, and no "
            "share of it; type a number of batches."
        )
    if not share and isinstance(value, int) and value > 1:
        raise InputError(
            f"trainer.{key}={value}: with data.segment_size a pass's last segment may have fewer batches; type a share "
            "such as 0.5, or trainer.check_val_every_n_epoch=null to count over epochs."
        )


def _batches(store: Store, split: str, reviews: int) -> int:
    return math.ceil(len(store.split(split)) / reviews)


def _limited(count: int, limit: float | None) -> int:
    """Batches that are left of `count` by a number of batches or a share of them; None: all."""
    if limit is None:
        return count
    return min(count, limit) if isinstance(limit, int) else int(count * limit)
