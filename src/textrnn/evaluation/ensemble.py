"""Predictions of an ensemble: the mean of its members' probabilities."""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid

from textrnn.evaluation.metrics import SplitPredictions


def mean_predictions(members: Sequence[SplitPredictions]) -> SplitPredictions:
    """Return the predictions whose probabilities are the means of the members', by row of the split.

    Args:
        members: Predictions of the same reviews and classes, each in any order.

    """
    orders = [member.indices.argsort() for member in members]
    logits = torch.stack([member.logits[order].double() for member, order in zip(members, orders, strict=True)])
    # In logarithms, as a mean of probabilities close to 1 would round to 1.
    if logits.ndim == 2:
        mean = logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)
    else:
        mean = logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(members))
    first, order = members[0], orders[0]
    return SplitPredictions(
        logits=mean,
        labels=first.labels[order],
        lengths=first.lengths[order],
        indices=first.indices[order],
        classes=first.classes,
    )
