"""The loss of a training batch, with label smoothing, adversarial and virtual adversarial training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from textrnn.config.schema import ModelConfig
from textrnn.model.adversarial import adversarial_move, virtual_losses
from textrnn.model.dropout import repeated_draws
from textrnn.model.network import TextClassifier

Batch = Mapping[str, Any]


def review_losses(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each review in nats, (batch,); 0 for a filler, whose weight is 0.

    With label smoothing e and C classes the target is (1 - e) y + e / C (Szegedy et al. 2016, section 7). With several
    labels a review, each class is a question of its own with two answers, and the loss is the mean over the classes.

    Args:
        logits: (batch,), those of class 1 of two, or (batch, classes).
        labels: (batch,) int64, class ids; with several labels a review (batch, classes) float, 0 or 1.
        weights: (batch,).
        label_smoothing: e, from 0 to 1.

    """
    if logits.ndim > labels.ndim:
        return weights * cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    targets = labels.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weights * (losses if losses.ndim == 1 else losses.mean(dim=1))


def step_loss(losses: Tensor, global_batch_size: int, world_size: int) -> Tensor:
    """Return this rank's loss, scaled so that the ranks' mean gradient is that of the mean over the step's reviews."""
    return losses.sum() / global_batch_size * world_size


class TrainingLoss(NamedTuple):
    """Loss, losses and logits of a training batch."""

    loss: Tensor
    """A scalar to take the gradient of."""
    losses: Tensor
    """(batch,), of the reviews as they are; detached."""
    logits: Tensor
    """(batch,) or (batch, classes), of the reviews as they are; detached."""
    virtual: tuple[Tensor, ...] = ()
    """Sum of the divergences and number of their reviews, detached; () without virtual adversarial training."""


def training_loss(
    network: TextClassifier,
    batch: Batch,
    config: ModelConfig,
    *,
    world_size: int = 1,
    scale: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> TrainingLoss:
    """The loss of a batch by `label_smoothing`, `adversarial` and `virtual_adversarial` of the configuration.

    Adversarial training (Miyato, Dai & Goodfellow 2017) takes the mean of two losses: of the reviews as they are, and
    of the same reviews with their tokens' vectors moved along the loss's gradient, the direction in which the loss
    grows fastest. The move of a review has `adversarial` times the L2 norm of all its vectors together; the paper uses
    a fixed norm and normalized vectors instead. Both passes see the same dropped words and components.

    Virtual adversarial training (the same paper) adds the mean of `virtual_losses` over the step's reviews, those of
    `unlabelled` included.

    Args:
        network: The network, in training.
        batch: token_ids (batch, time), lengths, weights (batch,), labels, and global_batch_size; see `Batch`.
            `unlabelled`, if it is there, is another such batch, whose labels are not read.
        config: The model.
        world_size: Ranks that share the step.
        scale: The loss scale of half precision, applied before the gradient is taken; None: none.
        seed: Decides the random direction of virtual adversarial training, the same on all ranks.

    """
    vectors: Tensor = network.embedding(batch["token_ids"])
    share = config.virtual_adversarial
    if share == 0:
        return _labelled_loss(network, vectors, batch, config, world_size, scale)
    with repeated_draws(vectors.device):
        step = _labelled_loss(network, vectors, batch, config, world_size, scale)
    lengths, weights, reviews = batch["lengths"], batch["weights"], batch["global_batch_size"]
    many_labels = batch["labels"].ndim == 2
    virtual = weights * virtual_losses(
        network, vectors, lengths, step.logits, share, seed=seed, scale=scale, many_labels=many_labels
    )
    if others := batch.get("unlabelled"):
        vectors, lengths = network.embedding(others["token_ids"]), others["lengths"]
        with repeated_draws(vectors.device), torch.no_grad():
            logits = network.classify(vectors, lengths)
        losses = virtual_losses(network, vectors, lengths, logits, share, seed=seed, scale=scale) * others["weights"]
        virtual, reviews = torch.cat((virtual, losses)), reviews + others["global_batch_size"]
        weights = torch.cat((weights, others["weights"]))
    loss = step.loss + step_loss(virtual, reviews, world_size)
    return step._replace(loss=loss, virtual=(virtual.detach().sum(), weights.sum()))


def _labelled_loss(
    network: TextClassifier,
    vectors: Tensor,
    batch: Batch,
    config: ModelConfig,
    world_size: int,
    scale: Callable[[Tensor], Tensor] | None,
) -> TrainingLoss:
    """The loss by `label_smoothing` and `adversarial`; see `training_loss`."""
    labels, weights = batch["labels"], batch["weights"]

    def passed(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = network.classify(vectors, batch["lengths"])
        losses = review_losses(logits, labels, weights, config.label_smoothing)
        return step_loss(losses, batch["global_batch_size"], world_size), losses.detach(), logits.detach()

    if config.adversarial == 0:
        return TrainingLoss(*passed(vectors))
    # The first pass's gradient is needed for the move, so it is taken here and kept. It must not be written into the
    # parameters: DDP allows one write per parameter and step.
    leaf = vectors.detach().requires_grad_()
    loss, losses, logits = passed(leaf)
    parameters = [p for n, p in network.named_parameters() if p.requires_grad and not n.startswith("embedding.")]
    factor = torch.ones_like(loss) if scale is None else scale(torch.ones_like(loss))
    with torch.autocast(vectors.device.type, enabled=False):  # of the forward pass alone
        gradients = torch.autograd.grad(loss * factor, [leaf, *parameters])
    # torch leaves `Function.apply` untyped.
    known: Tensor = _Known.apply(loss.detach(), factor, gradients, vectors, *parameters)  # type: ignore[no-untyped-call]
    moved = vectors + adversarial_move(leaf.detach(), gradients[0], config.adversarial)
    return TrainingLoss((known + passed(moved)[0]) / 2, losses, logits)


class _Known(torch.autograd.Function):
    """A loss whose gradients, times a factor, are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, factor: Tensor, gradients: Sequence[Tensor], *_: Tensor) -> Tensor:
        """Return the loss; the tensors that it depends on come last, in the order of their gradients."""
        ctx.factor, ctx.gradients = factor, gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients and drop them."""
        gradients, ctx.gradients = ctx.gradients, None
        rest = outer[0] / ctx.factor
        return None, None, None, *(gradient * rest for gradient in gradients)
