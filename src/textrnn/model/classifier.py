"""Training of a network: the loss, the optimizer and the random state of each step."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import DoublePrecision, MixedPrecision
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from textrnn.base.lightning_internals import processed_tracker
from textrnn.config.schema import ModelConfig, OptimizerConfig
from textrnn.model.loss import Batch, training_loss
from textrnn.model.network import TextClassifier, correct_reviews

SHARED = 2**32 - 1
"""In `step_seed` the rank of a draw that is the same on all ranks."""


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: float, schedule: str) -> float:
    """Return the factor of the learning rate in optimizer step `step` (from 0) of `total_steps`.

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
    """Return a 63-bit seed for a training batch; NumPy's SeedSequence makes adjacent steps independent."""
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
    batch's position, so a resumed run draws the same dropout as an uninterrupted one.

    Logs `train/loss`, `train/accuracy`, `lr` and `train/grad_norm` every `trainer.log_every_n_steps` optimizer steps:
    the first two as means over the reviews of all ranks since the last row, the others of that step alone. With virtual
    adversarial training `train/virtual_adversarial` is such a mean too, over unlabelled reviews as well. The callback
    `Predictions` logs `val/...` and `test/...`.

    Args:
        model: The model.
        optimizer: The optimizer and its schedule.
        vocab_size: Tokens in the vocabulary.
        seed: The run's seed, not negative.
        vectors: (vocab_size, embedding size), initial values of the embedding; None: random.
        classes: Number of classes, at least two.
        many_labels: Whether a text may have several labels.

    """

    def __init__(
        self,
        model: ModelConfig,
        optimizer: OptimizerConfig,
        *,
        vocab_size: int,
        seed: int,
        vectors: Tensor | None = None,
        classes: int = 2,
        many_labels: bool = False,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = TextClassifier(model, vocab_size, vectors, classes=classes, many_labels=many_labels)
        self.optimizer_config = optimizer
        self.model_config = model
        self.seed = seed
        self.train_metrics: dict[str, float] = {}
        """`train/...` and `lr` of the last logged row."""
        self.total_steps = math.inf
        """The last optimizer step by the trainer's limits; known when training starts."""
        self._schedule: _Schedule | None = None
        # Sum of losses, correct reviews and reviews since train/loss was last logged; with virtual adversarial training
        # sum of divergences and their reviews, too. On the device, so that no step waits for it; not a buffer, which
        # half precision would round.
        self._train_sums = torch.zeros(3 if model.virtual_adversarial == 0 else 5)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """See `TextClassifier.forward`."""
        logits: Tensor = self.model(token_ids, lengths)
        return logits

    def on_fit_start(self) -> None:
        """Move the sums, zero or from a checkpoint, to the device."""
        dtype = torch.promote_types(self.model.output.weight.dtype, torch.float32)
        self._train_sums = self._train_sums.to(self.device, dtype)

    def on_train_start(self) -> None:
        """Set optimizer and schedule to the configuration's values, as a checkpoint has restored its own.

        The learning rate depends on the last step, which is known when the place in the data has been restored.
        """
        self.total_steps = self._last_step()
        config = self.optimizer_config
        (optimizer,), scheduler = self.trainer.optimizers, self.lr_schedulers()
        assert isinstance(scheduler, LambdaLR)
        groups = optimizer.param_groups
        scheduler.base_lrs = []
        factor = self._learning_rate_factor(scheduler.last_epoch)
        for group, (depth, decays) in zip(groups, self._parameter_groups(), strict=True):
            lr = config.lr * config.layer_decay**depth
            scheduler.base_lrs.append(lr)
            group |= {"lr": lr * factor, "initial_lr": lr, "betas": tuple(config.betas)}
            group["weight_decay"] = config.weight_decay if decays else 0.0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Seed torch's generators, of the CPU and of all devices, for this batch.

        The seed depends on the optimizer step and the batch's number within its accumulation: unlike Lightning's total
        batch index, neither counts a batch that was begun before an interruption.
        """
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        torch.manual_seed(step_seed(self.seed, self.trainer.global_step, micro_batch, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        plugin = self.trainer.precision_plugin
        scaler = plugin.scaler if isinstance(plugin, MixedPrecision) else None
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        step = training_loss(
            self.model,
            batch,
            self._config_of_step(),
            world_size=self.trainer.world_size,
            scale=None if scaler is None else scaler.scale,
            seed=step_seed(self.seed, self.trainer.global_step, micro_batch, SHARED),
        )
        weights = batch["weights"]
        correct = weights * correct_reviews(step.logits, batch["labels"])
        sums = torch.stack([step.losses.sum(), correct.sum(), weights.sum(), *step.virtual])
        self._train_sums = self._train_sums + sums.to(self._train_sums.dtype)
        self._log_training(batch_idx)
        return step.loss

    def _config_of_step(self) -> ModelConfig:
        """Return the model's configuration; `adversarial` is 0 but at every `adversarial_every`-th optimizer step."""
        if self.trainer.global_step % self.model_config.adversarial_every == 0:
            return self.model_config
        return replace(self.model_config, adversarial=0.0)

    def _log_training(self, batch_idx: int) -> None:
        """Turn the sums into `train_metrics` and reset them, if this batch ends an optimizer step that is logged.

        This happens before the step, because callbacks that save a checkpoint after it must find the sums reset.
        Lightning passes metrics to the loggers only after such callbacks, and a kill in between would lose the row; so
        a callback of `tracking` passes `train_metrics` to the loggers first (`logger=False`).
        """
        trainer = self.trainer
        ends_epoch = trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches != 0 and not ends_epoch:
            return
        if not self._step_is_logged():
            return
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        self.train_metrics = {**self.training_metrics(self._reduced_train_sums().tolist()), "lr": lr}
        self.log_dict(self.train_metrics, on_step=True, on_epoch=False, logger=False)
        self._train_sums = torch.zeros_like(self._train_sums)

    def training_metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the means over reviews, from `_train_sums` over all ranks."""
        loss, correct, reviews, *virtual = sums
        metrics = {"train/loss": loss / reviews, "train/accuracy": correct / reviews}
        if virtual:
            metrics["train/virtual_adversarial"] = virtual[0] / virtual[1]
        return metrics

    def _step_is_logged(self) -> bool:
        """Return whether the current optimizer step is logged."""
        # Lightning sets the attribute in a connector, which the type checker doesn't see.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every != 0 and (self.trainer.global_step + 1) % every == 0

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Measure the norm of the gradients (L2 over all parameters), then clip them as Lightning does.

        Lightning calls this once per step, with the gradients averaged over all ranks and, in half precision, unscaled.
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
        """Store what a resumed run needs for the train/loss and the learning rate of an uninterrupted run."""
        sums = self.all_gather(self._train_sums)
        assert isinstance(sums, Tensor)
        checkpoint["train_sums"] = sums.reshape(-1, len(self._train_sums)).cpu()
        checkpoint["schedule"] = self._schedule

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore each rank's sums; with another number of ranks, the first one gets the sums of all."""
        # Lightning loads weights before it converts the parameters to `trainer.precision`; float32 parameters would
        # round float64 weights.
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()
        self._schedule = checkpoint.get("schedule")
        sums: Tensor = checkpoint["train_sums"]
        if len(sums) == self.trainer.world_size:
            self._train_sums = sums[self.global_rank]
        else:
            self._train_sums = sums.sum(dim=0) if self.global_rank == 0 else torch.zeros_like(sums[0])

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Return the logits of a batch; a callback measures them."""
        return self.forward(batch["token_ids"], batch["lengths"])

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Return the logits of a batch; a callback measures them."""
        return self.forward(batch["token_ids"], batch["lengths"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, with weight decay of weight matrices only, and a schedule that is updated every step."""
        config = self.optimizer_config
        first, second = config.betas
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": config.lr * config.layer_decay**depth,
                    "weight_decay": config.weight_decay if decays else 0.0,
                }
                for (depth, decays), parameters in self._parameter_groups().items()
            ],
            betas=(first, second),
            fused=True,  # one pass over each parameter: 1.5 ms instead of 8.7 for 10,000 embeddings of 100
        )
        # torch marks optimizers that undo a loss scale themselves, and Lightning refuses to clip with them. Without
        # the mark the gradients are unscaled before they are clipped, as with any other optimizer.
        optimizer._step_supports_amp_scaling = False
        scheduler = LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _parameter_groups(self) -> dict[tuple[int, bool], list[nn.Parameter]]:
        """Return the trained parameters by depth and whether they decay; the first group is of depth 0.

        The depth is 0 for all that is above the encoder, 1 for its last layer and so on down to the embedding. It is 0
        for the table of bigrams, too, which no language model has trained. Where all learning rates are the same, it is
        0 for all.
        """
        embedding, layers = set(self.model.embedding.parameters()), self.model.encoder.layers
        depths = dict.fromkeys(self.model.embedding.table.parameters(), len(layers) + 1)
        for depth, layer in enumerate(reversed([*layers]), 1):
            depths |= dict.fromkeys(layer.parameters(), depth)
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                depth = 0 if self.optimizer_config.layer_decay == 1 else depths.get(parameter, 0)
                decays = parameter.ndim >= 2 and parameter not in embedding
                groups.setdefault((depth, decays), []).append(parameter)
        return dict(sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1])))

    def _learning_rate_factor(self, step: int) -> float:
        config = self.optimizer_config
        return learning_rate_factor(
            step, warmup_steps=config.warmup_steps, total_steps=self.total_steps, schedule=config.schedule
        )

    def _last_step(self) -> float:
        """Return the last optimizer step: the steps so far, and those that the current limits leave to do.

        With segments, each epoch counts as many batches as the one in which training began. A resumed run keeps that
        number while its limits are the same; a shorter segment would otherwise move the end.
        """
        trainer = self.trainer
        limit = math.inf if trainer.max_steps == -1 else trainer.max_steps
        if trainer.max_epochs in (None, -1):
            return limit
        limits = [trainer.limit_train_batches, trainer.accumulate_grad_batches]
        # Lightning sets the attribute in a connector, which the type checker doesn't see.
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
