"""Which words decided: integrated gradients and occlusion of a text's tokens.

Integrated gradients: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365. Occlusion: Zeiler & Fergus 2014,
https://arxiv.org/abs/1311.2901, for text Li et al. 2016, https://arxiv.org/abs/1612.08220.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from textrnn.config.schema import UNK_ID
from textrnn.model.network import TextClassifier

Target = Callable[[Tensor], Tensor]
"""From the network's logits, (batch,) or (batch, classes), to the number that is explained, (batch,)."""

FEWEST, MOST = 16, 1024
"""Steps of the first integral, and of the last one."""
TOLERANCE, SMALLEST = 0.01, 0.001
"""The shares' sum may differ from the difference of logits by 1 % of it, or by 0.001: a probability by 0.00025."""
TOKENS, NUMBERS = 2**15, 2**24
"""At a time the network reads at most so many tokens, and vectors of so many components, or one text."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, and what it adds to the logit."""

    start: int
    """Its first character in the text."""
    end: int
    """The character after its last one."""
    share: float
    """By integrated gradients; all shares add up to the logit less the baseline's."""
    occlusion: float
    """The logit less that of the text with `<unk>` in place of the word."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a text has a label, or hasn't."""

    text: str
    label: str
    """Name of the class that is explained."""
    probability: float
    """Its probability."""
    logit: float
    """Its log odds: the logarithm of probability / (1 - probability)."""
    baseline_logit: float
    """The same with vectors of zeros in place of all words."""
    words: tuple[Word, ...]
    """Those that the network reads, in their order."""
    read: tuple[int, int]
    """The characters that are read, from and to; a longer text is cut off outside."""
    steps: int
    """Steps of the integral."""

    @property
    def error(self) -> float:
        """The sum of the shares less the difference of logits."""
        return sum(word.share for word in self.words) - (self.logit - self.baseline_logit)

    @property
    def is_complete(self) -> bool:
        """Whether the shares add up to the difference of logits within 1 %, or 0.001."""
        return _is_small(self.error, self.logit - self.baseline_logit)


def log_odds(number: int, *, many_labels: bool) -> Target:
    """Return the target that is the log odds of class `number`, whatever the number of logits.

    Of two classes it is the one logit, or minus that; where a text may have several labels the class's logit; of more
    classes its logit less the log-sum-exp of the others, so that a number added to all logits changes nothing.
    """

    def target(logits: Tensor) -> Tensor:
        if logits.ndim == 1:
            return logits if number == 1 else -logits
        if many_labels:
            return logits[:, number]
        others = torch.cat((logits[:, :number], logits[:, number + 1 :]), dim=1)
        return logits[:, number] - others.logsumexp(dim=1)

    return target


class Attribution(NamedTuple):
    """Integrated gradients of a text."""

    shares: list[float]
    """Of each token."""
    logit: float
    baseline_logit: float
    steps: int


def integrated_gradients(network: TextClassifier, token_ids: Tensor, target: Target) -> Attribution:
    """Attribute a text's target to its tokens, on a straight path from vectors of zeros to the tokens' own.

    The integral is taken by Gauss and Legendre's rule; steps are doubled until the shares add up to the difference of
    logits within 1 %, or are 1,024.

    Args:
        network: In evaluation mode.
        token_ids: (time,) int64, without padding.
        target: What is explained.
    """
    vectors = network.embedding(token_ids.unsqueeze(0)).detach().squeeze(0)
    ends = torch.stack((torch.zeros_like(vectors), vectors))
    with torch.inference_mode():
        baseline, logit = target(network.classify(ends, _lengths(ends))).tolist()
    steps = FEWEST
    while True:
        shares = (_mean_gradient(network, vectors, target, steps) * vectors).sum(dim=1).tolist()
        if _is_small(sum(shares) - (logit - baseline), logit - baseline) or steps >= MOST:
            return Attribution(shares, logit, baseline, steps)
        steps *= 2


def _is_small(error: float, difference: float) -> bool:
    return abs(error) <= max(TOLERANCE * abs(difference), SMALLEST)


def _mean_gradient(network: TextClassifier, vectors: Tensor, target: Target, steps: int) -> Tensor:
    """Return the target's gradient by the vectors, (time, size), in its mean over the path."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(steps))  # of -1 to 1
    rule = torch.stack(((nodes + 1) / 2, weights / 2)).to(vectors)
    total = torch.zeros_like(vectors)
    for alpha, weight in torch.split(rule, _at_once(*vectors.shape), dim=1):
        points = (alpha.view(-1, 1, 1) * vectors).requires_grad_()
        # cuDNN has no gradient in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            value = target(network.classify(points, _lengths(points))).sum()
            (gradient,) = torch.autograd.grad(value, points)
        total += torch.einsum("n,nts->ts", weight, gradient)
    return total


def occlusion(
    network: TextClassifier, token_ids: Tensor, places: Sequence[tuple[int, int]], target: Target
) -> list[float]:
    """Return how much the target falls when `<unk>` is in place of each word.

    Args:
        network: In evaluation mode.
        token_ids: (time,) int64, without padding.
        places: The tokens of each word, from and to.
        target: What is explained.
    """
    texts = token_ids.repeat(1 + len(places), 1)
    for row, (start, end) in enumerate(places, 1):
        texts[row, start:end] = UNK_ID
    at_once = _at_once(len(token_ids), network.embedding.size)
    with torch.inference_mode():
        whole, *without = torch.cat(
            [target(network(part, _lengths(part))) for part in torch.split(texts, at_once)]
        ).tolist()
    return [whole - value for value in without]


def _at_once(time: int, size: int) -> int:
    """Return how many texts of `time` tokens, with vectors of `size` components, are read at a time."""
    return max(1, min(TOKENS, NUMBERS // size) // time)


def _lengths(texts: Tensor) -> Tensor:
    return torch.full((len(texts),), texts.shape[1], device=texts.device)
