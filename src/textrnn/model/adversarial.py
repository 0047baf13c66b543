"""Moves of a review's vectors in the direction that hurts most, and the loss of virtual adversarial training.

Source: Miyato, Dai & Goodfellow 2017, section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from textrnn.model.dropout import repeated_draws
from textrnn.model.network import TextClassifier


def adversarial_move(vectors: Tensor, gradient: Tensor, share: float) -> Tensor:
    """Return the move of each review along its gradient, with `share` times the norm of its vectors.

    Args:
        vectors: (batch, time, size), 0 at padding.
        gradient: The loss's with respect to `vectors`, of any scale.
        share: The move's length (L2, over time and size) over that of the review's vectors.

    Returns:
        (batch, time, size); 0 for a review without a gradient, such as a filler.

    """
    wide = torch.promote_types(gradient.dtype, torch.float32)
    lengths, slopes = (torch.linalg.vector_norm(of, dim=(1, 2), keepdim=True, dtype=wide) for of in (vectors, gradient))
    return gradient * torch.where(slopes > 0, share * lengths / slopes, 0.0).to(gradient.dtype)


def divergences(logits: Tensor, moved: Tensor, *, many_labels: bool = False) -> Tensor:
    """KL divergence of the predictions `moved` from the predictions `logits` in nats, (batch,).

    Of one logit a review it is that of two Bernoulli distributions, of more that of two softmax distributions. With
    several labels a review, each class is a question of its own with two answers, and it is the mean over the classes,
    as the loss is.

    Args:
        logits: (batch,) or (batch, classes), of the reviews as they are.
        moved: The same shape, of the moved reviews.
        many_labels: Whether a review may have several labels.

    """
    if logits.ndim == 2 and not many_labels:
        known, found = logits.log_softmax(dim=1), moved.log_softmax(dim=1)
        return (known.exp() * (known - found)).sum(dim=1)
    positive = logits.sigmoid() * (logsigmoid(logits) - logsigmoid(moved))
    both = positive + (-logits).sigmoid() * (logsigmoid(-logits) - logsigmoid(-moved))
    return both.mean(dim=1) if many_labels else both


def virtual_losses(
    network: TextClassifier,
    vectors: Tensor,
    lengths: Tensor,
    logits: Tensor,
    share: float,
    *,
    seed: int,
    scale: Callable[[Tensor], Tensor] | None = None,
    many_labels: bool = False,
) -> Tensor:
    """Divergence of each review's prediction when its vectors move in the direction that changes it most, (batch,).

    That direction is the first eigenvector of the divergence's Hessian. One power iteration from a random direction
    approximates it: the gradient of the divergence, taken after a move in the random direction. With one logit it is
    exact to second order, as the Hessian has rank 1. Both moves have `share` times the norm of the review's vectors;
    all passes draw the same dropout.

    The paper's move has a fixed norm, epsilon. As it normalizes the vectors to components of variance 1, theirs is the
    square root of tokens times size, and epsilon = 5 with 400 tokens of size 256 is a share of 5 / 320 = 0.016. Unlike
    epsilon, a share needs no other value for short reviews or for vectors that are not normalized.

    Args:
        network: The network, in training.
        vectors: (batch, time, size), 0 at padding.
        lengths: (batch,).
        logits: The network's, for these vectors and the dropout that it draws next; without a gradient.
        share: As `model.virtual_adversarial`.
        seed: Decides the random direction.
        scale: The loss scale of half precision; None: none.
        many_labels: Whether a review may have several labels.

    """
    known = vectors.detach()
    leaf = (known + first_move(known, lengths, share, seed)).requires_grad_()
    with repeated_draws(known.device):
        changed = divergences(logits, network.classify(leaf, lengths), many_labels=many_labels).sum()
    with torch.autocast(known.device.type, enabled=False):  # of the forward pass alone
        (gradient,) = torch.autograd.grad(changed if scale is None else scale(changed), leaf)
    moved = vectors + adversarial_move(known, gradient, share)
    return divergences(logits, network.classify(moved, lengths), many_labels=many_labels)


def first_move(vectors: Tensor, lengths: Tensor, share: float, seed: int) -> Tensor:
    """Return a random move of each review, of `share` times the norm of its vectors; 0 at padding.

    The direction is one field of random numbers, uniform in (-0.5, 0.5) by token's place and component, of which each
    review takes as many tokens as it has. So it depends neither on the rank nor on the other reviews of the batch.

    Args:
        vectors: (batch, time, size), 0 at padding.
        lengths: (batch,).
        share: The move's length over that of the review's vectors.
        seed: Decides the field.

    """
    _, time, size = vectors.shape
    # On the CPU, where numbers are drawn one after another: the field of a shorter batch is the beginning of a longer.
    field = torch.rand(time, size, generator=torch.Generator().manual_seed(seed)) - 0.5
    inside = torch.arange(time, device=vectors.device) < lengths.unsqueeze(1)
    return adversarial_move(vectors, inside.unsqueeze(2) * field.to(vectors), share)
