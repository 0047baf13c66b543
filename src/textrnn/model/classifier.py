"""The training of a network: the loss, the optimiser and the random state of each step."""

import math
from typing import Any, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import DoublePrecision, MixedPrecision
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from textrnn.base.lightning_internals import processed_tracker
from textrnn.config.schema import ModelConfig, OptimizerConfig
from textrnn.model.loss import Batch, training_loss
from textrnn.model.network import TextClassifier


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: float, schedule: str) -> float:
    """What the learning rate is multiplied with in optimiser step `step` (from 0), of `total_steps`.

    Linear warm-up from 1 / (warmup_steps + 1) to 1, then constant, or decay to 0 at step `total_steps`: linear, or
    half a cosine (Loshchilov & Hutter 2017).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def step_seed(seed: int, global_step: int, micro_batch: int, rank: int) -> int:
    """A 63-bit seed for a training batch; numpy's SeedSequence makes neighbouring steps independent."""
    mixed = np.random.SeedSequence([seed, global_step, micro_batch, rank]).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))


class _Schedule(TypedDict):
    """What the last step follows from."""

    limits: list[float | int]
    """`limit_train_batches` and `accumulate_grad_batches`."""
    epoch_steps: int
    before: int
    """Steps so far, less those that as many epochs take by these limits: 0 unless the limits have changed."""


class ReviewClassifier(pl.LightningModule):
    """Training and evaluation of a TextClassifier.

    Parameters are drawn from `seed` alone. The random state of each training batch is seeded from `seed` and the
    batch's place, so that a resumed run draws the dropout that it would have drawn.

    Logs `train/loss`, `train/accuracy`, `lr` and `train/grad_norm` every `trainer.log_every_n_steps` optimiser steps,
    the first two as means over the reviews of all ranks since the last time, the others of that step alone. The
    callback `Predictions` logs `val/...` and `test/...`.

    Args:
        model: The model.
        optimizer: The optimiser and its schedule.
        vocab_size: Tokens in the vocabulary.
        seed: The run's seed, not negative.
        vectors: (vocab_size, embedding size) that the embedding starts from; None: random.

    """

    def __init__(
        self,
        model: ModelConfig,
        optimizer: OptimizerConfig,
        *,
        vocab_size: int,
        seed: int,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = TextClassifier(model, vocab_size, vectors)
        self.optimizer_config = optimizer
        self.model_config = model
        self.seed = seed
        self.train_metrics: dict[str, float] = {}
        """`train/loss`, `train/accuracy`, `lr` and `train/grad_norm` of the last steps that were logged."""
        self.total_steps = math.inf
        """The last optimiser step by the trainer's limits, from the start of training on."""
        self._schedule: _Schedule | None = None
        # Sum of losses, correct reviews, reviews since train/loss was last logged; on the device, so that no step
        # waits for it, and no buffer, which half precision would round.
        self._train_sums = torch.zeros(3)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """See `TextClassifier.forward`."""
        logits: Tensor = self.model(token_ids, lengths)
        return logits

    def on_fit_start(self) -> None:
        """Bring the sums, zero or from a checkpoint, to the device."""
        dtype = torch.promote_types(self.model.output.weight.dtype, torch.float32)
        self._train_sums = self._train_sums.to(self.device, dtype)

    def on_train_start(self) -> None:
        """Give optimiser and schedule the configuration's values: a checkpoint has brought those of its time.

        Only now is the place in the data restored, and with it the last step, on which the learning rate depends.
        """
        self.total_steps = self._last_step()
        config = self.optimizer_config
        (optimizer,), scheduler = self.trainer.optimizers, self.lr_schedulers()
        assert isinstance(scheduler, LambdaLR)
        scheduler.base_lrs = [config.lr for _ in optimizer.param_groups]
        lr = config.lr * self._learning_rate_factor(scheduler.last_epoch)
        for group in optimizer.param_groups:
            group |= {"lr": lr, "initial_lr": config.lr, "betas": tuple(config.betas)}
        optimizer.param_groups[0]["weight_decay"] = config.weight_decay  # the other group has none

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Seed torch's generators, of the CPU and of all devices, for this batch.

        The place is the optimiser step and the batch within its accumulation: unlike Lightning's total batch index,
        neither counts a batch that was begun before an interruption.
        """
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        torch.manual_seed(step_seed(self.seed, self.trainer.global_step, micro_batch, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        plugin = self.trainer.precision_plugin
        scaler = plugin.scaler if isinstance(plugin, MixedPrecision) else None
        step = training_loss(
            self.model,
            batch,
            self.model_config,
            world_size=self.trainer.world_size,
            scale=None if scaler is None else scaler.scale,
        )
        weights = batch["weights"]
        correct = weights * ((step.logits > 0) == (batch["labels"] == 1))
        sums = torch.stack([step.losses.sum(), correct.sum(), weights.sum()])
        self._train_sums = self._train_sums + sums.to(self._train_sums.dtype)
        self._log_training(batch_idx)
        return step.loss

    def _log_training(self, batch_idx: int) -> None:
        """Turn the sums into `train_metrics` and forget them, if this batch ends an optimiser step to be logged.

        Here and not after the step: callbacks that save a checkpoint after this step must find the sums forgotten.
        Lightning hands what is logged here to the loggers only after such callbacks, and a kill in between would lose
        the row; so the tracking's callback takes `train_metrics` to the loggers first (`logger=False`).
        """
        trainer = self.trainer
        ends_epoch = trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches != 0 and not ends_epoch:
            return
        if not self._step_is_logged():
            return
        loss, correct, reviews = self._reduced_train_sums().tolist()
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        self.train_metrics = {"train/loss": loss / reviews, "train/accuracy": correct / reviews, "lr": lr}
        self.log_dict(self.train_metrics, on_step=True, on_epoch=False, logger=False)
        self._train_sums = torch.zeros_like(self._train_sums)

    def _step_is_logged(self) -> bool:
        """Whether the optimiser step that is under way is one to be logged."""
        # Lightning sets it from a connector, where types don't see it.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every != 0 and (self.trainer.global_step + 1) % every == 0

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Measure the gradients as the optimiser's step finds them, then clip them as Lightning does.

        Lightning comes here once a step, with the gradients of all ranks averaged and, in half precision, unscaled.
        The norm is that over all parameters (L2), before clipping.
        """
        if self._step_is_logged():
            parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self.train_metrics["train/grad_norm"] = float(get_total_norm(gradients))
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _reduced_train_sums(self) -> Tensor:
        sums = self.trainer.strategy.reduce(self._train_sums.clone(), reduce_op="sum")
        assert isinstance(sums, Tensor)
        return sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs to log the train/loss and to take the learning rate of an undisturbed one."""
        sums = self.all_gather(self._train_sums)
        assert isinstance(sums, Tensor)
        checkpoint["train_sums"] = sums.reshape(-1, 3).cpu()
        checkpoint["schedule"] = self._schedule

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give each rank its sums; if there are more ranks now, or fewer, the first one gets those of all."""
        # Lightning loads weights before it gives the parameters the type that `trainer.precision` says; single ones
        # would round double weights.
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()
        self._schedule = checkpoint.get("schedule")
        sums: Tensor = checkpoint["train_sums"]
        if len(sums) == self.trainer.world_size:
            self._train_sums = sums[self.global_rank]
        else:
            self._train_sums = sums.sum(dim=0) if self.global_rank == 0 else torch.zeros(3, dtype=sums.dtype)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Return the logits of a batch, (batch,); a callback measures them."""
        return self.forward(batch["token_ids"], batch["lengths"])

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Return the logits of a batch, (batch,); a callback measures them."""
        return self.forward(batch["token_ids"], batch["lengths"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with decoupled weight decay of weight matrices only, warm-up and decay step by step."""
        config = self.optimizer_config
        embeddings = set(self.model.embedding.parameters())
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in embeddings]
        others = [parameter for parameter in trained if parameter.ndim < 2 or parameter in embeddings]
        first, second = config.betas
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(first, second),
            fused=True,  # one pass over each parameter: 1.5 ms instead of 8.7 for 10,000 embeddings of 100
        )
        # Torch's mark of optimisers that undo a loss scale by themselves, with which Lightning refuses to clip.
        # Without it the gradients are unscaled before they are clipped, as for any other optimiser.
        optimizer._step_supports_amp_scaling = False
        scheduler = LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        config = self.optimizer_config
        return learning_rate_factor(
            step, warmup_steps=config.warmup_steps, total_steps=self.total_steps, schedule=config.schedule
        )

    def _last_step(self) -> float:
        """The last optimiser step: those so far, and those to come by the limits of now, which a resume may change.

        Where epochs are segments, all count as many batches as the one that training began in. A resumed run keeps that
        number while its limits are the same; a shorter segment would otherwise move the end.
        """
        trainer = self.trainer
        limit = math.inf if trainer.max_steps == -1 else trainer.max_steps
        if trainer.max_epochs in (None, -1):
            return limit
        limits = [trainer.limit_train_batches, trainer.accumulate_grad_batches]
        # A connector of Lightning's sets it, which types don't see.
        in_segments = trainer.reload_dataloaders_every_n_epochs > 0  # type: ignore[attr-defined]
        if self._schedule is None or self._schedule["limits"] != limits or not in_segments:
            steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            loop, epochs = trainer.fit_loop, processed_tracker(trainer.fit_loop.epoch_progress.current)
            batches = processed_tracker(loop.epoch_loop.batch_progress.current).processed
            # Between two epochs the count of batches is still that of the epoch before.
            taken = 0 if epochs.processed == epochs.started else min(steps, batches // trainer.accumulate_grad_batches)
            before = trainer.global_step - taken - epochs.processed * steps
            self._schedule = {"limits": limits, "epoch_steps": steps, "before": before}
        return min(limit, self._schedule["before"] + self._schedule["epoch_steps"] * trainer.max_epochs)
