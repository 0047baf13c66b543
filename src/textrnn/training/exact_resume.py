"""Corrections of Lightning's loops and callbacks: a resumed run equals an uninterrupted one."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.nn.parallel import DistributedDataParallel

from textrnn.base.console import LOGGER
from textrnn.base.lightning_internals import data_fetcher, end_restart, processed_tracker, validation_follows


class ResumedEarlyStopping(EarlyStopping):
    """Early stopping that also holds in a resumed run.

    Lightning's checkpoint has its state, but not that it has stopped the run: a run that was killed between its last
    checkpoint and its test would train further. The patience in the checkpoint is ignored, as it is the
    configuration's.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state without the patience, which may have been changed."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a resumed run that early stopping had ended."""
        del pl_module
        if self.wait_count >= self.patience:
            LOGGER.info(
                f"{self.monitor} hasn't improved for {self.wait_count} validations: type a larger "
                "early_stopping.patience to train on"
            )
            trainer.should_stop = True


class ResumedModelCheckpoint(ModelCheckpoint):
    """Checkpoints of a run whose directory may have been moved.

    In a directory of another name Lightning drops the best score, and the next validation would overwrite `best.ckpt`
    even if it is worse.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state with the paths of the run's present directory."""
        best = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        here = {name: self._here(state_dict[name]) for name in paths}
        super().load_state_dict({**state_dict, **here, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        """Return the file of this name in the folder of checkpoints; "" for none."""
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else ""


class ResumedLoops(Callback):
    """Make a resumed run begin with its next training batch or its unfinished validation.

    A checkpoint is taken after a training batch, during a validation, after a validation or at the end of an epoch. The
    counts that Lightning 2.6 saves don't distinguish the first two from the others, and it would skip the validation.
    So Lightning's mark of an unfinished validation, one batch begun and none processed, is set in such checkpoints; the
    validation then starts from its first batch.

    An epoch that a limit such as `max_steps` has ended early counts as unfinished: a run that is resumed with a higher
    limit continues with the epoch's remaining batches.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct the counts in the checkpoint."""
        del pl_module
        loops = checkpoint["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]
        # A checkpoint after a batch is taken before Lightning counts that batch as completed; the count would be one
        # too small.
        for counts in (batches["total"], batches["current"]):
            counts["completed"] = counts["processed"]
        epochs = loops["epoch_progress"]
        is_over = epochs["current"]["processed"] == epochs["current"]["started"]
        if is_over and batches["current"]["processed"] < trainer.num_training_batches:
            for counts in (epochs["total"], epochs["current"]):
                counts["processed"] -= 1
        if _validation_is_due(trainer):
            none = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            loops["epoch_loop.val_loop.batch_progress"] = {"total": begun, "current": none, "is_last_batch": False}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Correct how Lightning resumes from a checkpoint at, or just before, an epoch's end."""
        del pl_module
        fit, epoch, fetcher = trainer.fit_loop, trainer.fit_loop.epoch_loop, data_fetcher(trainer)
        if fit.restarted_on_epoch_end:
            # Only with `max_steps`: Lightning takes the finished epoch for an unfinished one, and would end it again.
            fit.epoch_progress.increment_completed()
            end_restart(trainer)
            fit.reset_restart_stage()
        elif epoch.restarting and epoch.batch_progress.current.ready >= trainer.num_training_batches:
            # The epoch has had all its batches; with `limit_train_batches` the loader would yield another one.
            assert fetcher is not None
            fetcher.done = True


def _validation_is_due(trainer: Trainer) -> bool:
    """Return whether the validation after the last training batch is pending or running."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.validating:
        return loop.val_loop.batch_progress.current.completed < sum(loop.val_loop.max_batches)
    counts = processed_tracker(loop.batch_progress.current)
    return counts.completed < counts.processed and validation_follows(trainer)


class SettledBuckets(Callback):
    """Run one step on a review of weight 0 before the first real step.

    DDP copies gradients into a buffer in the order of the parameters, and after its first step in the order in which
    gradients became ready. With three or more ranks the order of summation depends on the position in the buffer, so
    the first step of a resumed run would round differently from the same step of an uninterrupted run.
    Source: `Reducer::rebuild_buckets` of torch.nn.parallel.DistributedDataParallel.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run that step; the order changes with the next one."""
        wrapped = trainer.strategy.model
        if not isinstance(wrapped, DistributedDataParallel):
            return
        token_ids = torch.ones(1, 2, dtype=torch.int64, device=pl_module.device)
        lengths = torch.tensor([2], device=pl_module.device)
        (wrapped(token_ids, lengths).sum() * 0.0).backward()
        pl_module.zero_grad()
