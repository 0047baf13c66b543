"""Checks of a run with its reviews and this machine; imports torch only if necessary."""

import math

from textrnn.base.errors import InputError
from textrnn.config.schema import Config
from textrnn.data.store import Store
from textrnn.data.training_split import training_split
from textrnn.distributed.launch import trains_on_cpu

_DTYPES = {"16-true": "float16", "bf16-true": "bfloat16", "64-true": "float64", "64": "float64"}
_MIXED = ("16-mixed", "bf16-mixed", "16", "bf16")


def check_batches(config: Config, store: Store) -> None:
    """Refuse a share of a split's batches that is less than one, and a validation that no epoch would reach.

    Raises:
        InputError: with the number of batches.
    """
    trainer = config.trainer
    if trainer.fast_dev_run:
        return
    train, evaluation = config.data.batch_size, config.data.effective_eval_batch_size()
    limits = [("limit_train_batches", "train"), ("limit_val_batches", "validation")]
    counts = {
        "train": math.ceil(len(training_split(config, store)) / train),
        "validation": math.ceil(len(store.split("validation")) / evaluation),
    }
    if config.test:
        counts["test"] = math.ceil(len(store.split("test")) / evaluation)
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
    """Refuse a `limit_train_batches` or `val_check_interval` for which a pass's last segment may be too short.

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


def _limited(count: int, limit: float | None) -> int:
    """Return how many of `count` batches remain for a limit, a number of batches or a share of them; None: all."""
    if limit is None:
        return count
    return min(count, limit) if isinstance(limit, int) else int(count * limit)


def check_implementation(config: Config) -> None:
    """Refuse, before any review is read, a `model.implementation` that the first training step would fail with.

    And mixed precision in float16 on a CPU, where Lightning would compute in bfloat16 instead.

    Raises:
        InputError: this machine can't run it.
    """
    model, precision = config.model, str(config.trainer.precision)
    if model.implementation in ("auto", "cell") and precision not in ("16-mixed", "16"):
        return
    import torch

    from textrnn.model.implementations import check_implementation as check

    on_cpu = trains_on_cpu(config.trainer)
    if on_cpu and precision in ("16-mixed", "16"):
        raise InputError(
            f"trainer.precision={precision}: on a CPU mixed precision is in bfloat16 only; type "
            "trainer.precision=bf16-mixed, or 32-true."
        )
    # "meta" stands for any device but the processor, none of which is touched before its process is started.
    dtype: torch.dtype = getattr(torch, _DTYPES.get(precision, "float32"))
    weights = torch.empty(0, dtype=dtype, device="cpu" if on_cpu else "meta")
    check(model.implementation, model.cell, weights, torch.bfloat16 if precision in _MIXED else None)
