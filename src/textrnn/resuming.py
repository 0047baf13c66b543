"""Lightning's callbacks, changed where a resumed run would otherwise differ from one that was never stopped."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint


class ResumedEarlyStopping(EarlyStopping):
    """Early stopping that a resumed run remembers.

    Its state is in the checkpoint, but that it had stopped the run is not: a run that was killed between its last
    checkpoint and its test would train on.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops a resumed run whose patience was over."""
        del pl_module
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class StepCheckpoint(ModelCheckpoint):
    """Writes a checkpoint every so many steps, but not after an epoch's last one.

    There Lightning 2.6 would resume behind the epoch's batches and skip its validation; the epoch's own checkpoint
    follows anyway.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes the checkpoint if it is time."""
        if not ends_epoch(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def ends_epoch(trainer: Trainer) -> bool:
    """Whether the current training batch is the epoch's last one; right in a resumed epoch too."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.is_last_batch or progress.current.ready >= trainer.num_training_batches
