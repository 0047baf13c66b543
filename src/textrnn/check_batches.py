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
    # Without check_val_every_n_epoch, Lightning counts over epochs.
    every = trainer.val_check_interval if trainer.check_val_every_n_epoch is not None else None
    if config.data.segment_size is not None:
        _check_last_segment(trainer.limit_train_batches, every)
    training = _limited(counts["train"], trainer.overfit_batches or trainer.limit_train_batches)
    if isinstance(every, int) and every > training > 0:
        raise InputError(
            f"trainer.val_check_interval={every}: an epoch has {training} training batches; type {training} or less, "
            "or trainer.check_val_every_n_epoch=null to count over epochs."
        )


def _check_last_segment(limit: float | None, every: float | None) -> None:
    """Refuse a `limit_train_batches` or `val_check_interval` that a pass's last segment may be too short for.

    Raises:
        InputError: for a share of the batches, or a validation after several.
    """
    if isinstance(limit, float) and 0 < limit < 1:
        raise InputError(
            f"trainer.limit_train_batches={limit}: with data.segment_size a pass's last segment may have a single "
            "batch, and no share of it; type a number of batches."
        )
    if isinstance(every, int) and every > 1:
        raise InputError(
            f"trainer.val_check_interval={every}: with data.segment_size a pass's last segment may have fewer batches; "
            "type a share such as 0.5, or trainer.check_val_every_n_epoch=null to count over epochs."
        )


def _batches(store: Store, split: str, reviews: int) -> int:
    return math.ceil(len(store.split(split)) / reviews)


def _limited(count: int, limit: float | None) -> int:
    """Batches that are left of `count` by a number of batches or a share of them; None: all."""
    if limit is None:
        return count
    return min(count, limit) if isinstance(limit, int) else int(count * limit)
