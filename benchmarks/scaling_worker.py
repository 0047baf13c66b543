"""One of several processes that train together, on requests from `scaling.py`: first its rank, then blocks of steps.

The program's module, batches and Lightning strategy, without a run's record.
"""

import os
import time
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # torch does not list it
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from models import model_config
from reviews import data_config, open_store
from textrnn.base.console import quiet_lightning
from textrnn.base.process import keep_freed_memory
from textrnn.config.schema import DataConfig, OptimizerConfig
from textrnn.data.batches import straggler_fraction
from textrnn.data.module import ReviewsDataModule
from textrnn.data.store import Store
from textrnn.model.classifier import ReviewClassifier
from worker import requests

WARM_UP = 4
"""Steps before the clock starts; DDP orders its buckets of gradients in the first."""


class Clock(pl.Callback):
    """Time the steps after the warm-up.

    A step's exchange lasts from this process's last gradient to the end of the last all-reduce. Exchanges that overlap
    with the backward pass cost no time of their own.
    """

    def __init__(self) -> None:
        self.exchanges: list[float] = []
        """Seconds of each step's exchange."""
        self.update = 0.0
        """Seconds of clipping and optimizer."""
        self.tokens = 0
        self.started = self.ended = 0.0
        self._ready = self._averaged = self._before_update = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's
        """Have DDP report when a bucket of gradients is ready and when it is averaged."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.register_comm_hook(None, self._average)

    def _average(self, _: None, bucket: GradBucket) -> Future[torch.Tensor]:
        self._ready = time.perf_counter()
        return allreduce_hook(torch.distributed.group.WORLD, bucket).then(self._note)  # type: ignore[arg-type]  # None is no group

    def _note(self, average: Future[torch.Tensor]) -> torch.Tensor:
        self._averaged = time.perf_counter()
        return average.value()

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Record the end of the backward pass and the exchange."""
        self._before_update = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 - Lightning passes it
        outputs: Any,  # noqa: ARG002 - as above
        batch: Any,
        batch_idx: int,  # noqa: ARG002 - as above
    ) -> None:
        """Record the end of a step."""
        now = time.perf_counter()
        if trainer.global_step == WARM_UP:
            self.started = now
        if trainer.global_step <= WARM_UP:
            return
        self.ended = now
        self.update += now - self._before_update
        self.exchanges.append(self._averaged - self._ready)
        self.tokens += int((batch["lengths"] * (batch["weights"] > 0)).sum())


def block(
    data: DataConfig, store: Store, *, world_size: int, hidden_size: int, batch_size: int, steps: int, seed: int
) -> dict[str, Any]:
    """Return the measurements of this process over `steps` steps of `batch_size` reviews over all processes."""
    module = ReviewClassifier(model_config("gru", hidden_size), OptimizerConfig(), vocab_size=store.vocab_size, seed=0)
    reviews = ReviewsDataModule(replace(data, batch_size=batch_size), store, seed)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
        use_distributed_sampler=False,
        max_steps=WARM_UP + steps,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=reviews)
    loader = reviews.train_dataloader()
    return {
        "seconds": clock.ended - clock.started,
        "tokens": clock.tokens,
        "exchanges": clock.exchanges,
        "update": clock.update,
        "expected_waiting": straggler_fraction(loader.plan(0)[WARM_UP : WARM_UP + steps], loader.lengths, world_size),
    }


def main() -> None:
    """Serve as one process of a group."""
    asked = requests()
    who, ready = next(asked)
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(who["port"]), "LOCAL_RANK": str(who["rank"])}
    os.environ.update(group | {"NODE_RANK": "0", "WORLD_SIZE": str(who["world_size"]), "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    keep_freed_memory()
    quiet_lightning()
    data = data_config(who["data_path"], quick=who["quick"])
    store = open_store(data)
    ready(None)
    for request, reply in asked:
        reply(block(data, store, world_size=who["world_size"], **request))


if __name__ == "__main__":
    main()
