"""Gradients averaged over ranks in one order from the first step on: a resumed run repeats an undisturbed one."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel


class SettledBuckets(Callback):
    """One step on a review that weighs nothing, before the first one that counts.

    DDP copies gradients into a buffer in the order of the parameters; after its first step it takes the order in which
    gradients became ready. Three or more ranks are summed in an order that depends on the place in the buffer, so the
    first step of a resumed run would round otherwise than the same step of a run that was never stopped.
    Source: `Reducer::rebuild_buckets` of torch.nn.parallel.DistributedDataParallel.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs that step; the order changes with the next one."""
        wrapped = trainer.strategy.model
        if not isinstance(wrapped, DistributedDataParallel):
            return
        token_ids = torch.ones(1, 2, dtype=torch.int64, device=pl_module.device)
        lengths = torch.tensor([2], device=pl_module.device)
        (wrapped(token_ids, lengths).sum() * 0.0).backward()
        pl_module.zero_grad()
