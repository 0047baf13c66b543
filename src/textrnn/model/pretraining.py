"""Training of language models, as a classifier is trained: optimizer, schedule, clipping and random states are its."""

from collections.abc import Sequence

import torch
from torch import Tensor

from textrnn.config.schema import ModelConfig, OptimizerConfig, PretrainingConfig
from textrnn.model.classifier import SHARED, ReviewClassifier, step_seed
from textrnn.model.language_model import CandidateSampler, LanguageModel
from textrnn.model.loss import Batch


class LanguageModelTraining(ReviewClassifier):
    """Training and evaluation of a LanguageModel in place of a classifier.

    Embedding and encoder start from the values that a classifier of this seed has. A step's loss is the mean over the
    predictions of all its reviews, ranks and directions. Candidates are drawn from (seed, step), so they are the same
    on all ranks and in a resumed run.

    Logs `train/loss`, estimated from candidates; `val/loss` over the whole vocabulary, in nats a prediction, and its
    exponential `val/perplexity`; of two directions that of each, too.

    Args:
        model: The model.
        pretraining: The output and its candidates.
        optimizer: The optimizer and its schedule.
        counts: (vocab_size,) int64, how often each token occurs in the training texts.
        seed: The run's seed, not negative.
        vectors: (vocab_size, embedding size), initial values of the embedding; None: random.

    """

    def __init__(
        self,
        model: ModelConfig,
        pretraining: PretrainingConfig,
        optimizer: OptimizerConfig,
        *,
        counts: Tensor,
        seed: int,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__(model, optimizer, vocab_size=len(counts), seed=seed, vectors=vectors)
        parts = self.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = LanguageModel(model, parts.embedding, parts.encoder, counts, tied=pretraining.tied)
        # The methods that are a classifier's too use parameters, embedding and output of any network.
        self.model: LanguageModel = network  # type: ignore[assignment]
        self._sampler = CandidateSampler(counts, pretraining.candidates)
        self._sums = torch.zeros(0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        trainer, weights, lengths = self.trainer, batch["weights"], batch["lengths"]
        micro_batch = batch_idx % trainer.accumulate_grad_batches
        candidates = self._sampler.draw(step_seed(self.seed, trainer.global_step, micro_batch, SHARED))
        losses = self.model.sampled_losses(batch["token_ids"], lengths, candidates)
        total = (losses * weights.to(losses.dtype)).sum()
        count = ((lengths - 1) * weights).sum() * len(losses)
        everywhere = trainer.strategy.reduce(count.clone(), reduce_op="sum")
        sums = torch.stack([total.detach(), torch.zeros_like(total), count.to(total.dtype)])
        self._train_sums = self._train_sums + sums.to(self._train_sums.dtype)
        self._log_training(batch_idx)
        # A batch of reviews of a single token has nothing to predict.
        loss: Tensor = total / everywhere.clamp(min=1) * trainer.world_size
        return loss

    def training_metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the loss per prediction."""
        loss, _, count = sums
        return {"train/loss": loss / max(count, 1.0)}

    def on_validation_epoch_start(self) -> None:
        """Drop the sums of an unfinished validation."""
        self._sums = torch.zeros(len(self.model.projections), 2, dtype=torch.float64)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]  # noqa: ARG002
        """Add up the losses of a batch."""
        self._sums += self.model.evaluate(batch["token_ids"], batch["lengths"], batch["weights"])

    def on_validation_epoch_end(self) -> None:
        """Log the perplexities, the same on all ranks."""
        sums = self._sums
        if self.trainer.world_size > 1:
            reduced = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
            assert isinstance(reduced, Tensor)
            sums = reduced.cpu()
        losses = {"": sums[:, 0].sum() / sums[:, 1].sum()}
        if len(sums) == 2:
            losses |= {"_forward": sums[0, 0] / sums[0, 1], "_backward": sums[1, 0] / sums[1, 1]}
        logged = {"val/loss": losses[""]} | {f"val/perplexity{of}": loss.exp() for of, loss in losses.items()}
        dtype = torch.promote_types(self.model.output.weight.dtype, torch.float32)
        for name, value in logged.items():
            # As for a classifier: all ranks have the same value, and without `sync_dist` Lightning warns.
            exact = value.to(device=self.device, dtype=dtype)
            self.log(name, exact, on_step=False, on_epoch=True, reduce_fx="max", sync_dist=True)
