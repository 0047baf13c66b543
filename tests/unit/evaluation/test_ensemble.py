"""Ensembles: the mean of probabilities."""

import pytest
import torch

from textrnn.evaluation.ensemble import mean_predictions
from textrnn.evaluation.metrics import SplitPredictions


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_the_means_of_the_members_review_by_review(classes: int) -> None:
    shape = (7,) if classes == 2 else (7, classes)
    labels, lengths = torch.arange(7) % classes, torch.arange(7) + 1
    members = []
    for _ in range(3):
        order = torch.randperm(7)
        members.append(
            SplitPredictions(
                logits=torch.randn(shape) * 9,
                labels=labels[order],
                lengths=lengths[order],
                indices=order,
                classes=tuple("abc"[:classes]),
            )
        )
    found = mean_predictions(members)
    assert found.indices.tolist() == list(range(7))
    assert torch.equal(found.labels, labels)
    assert torch.equal(found.lengths, lengths)
    expected = torch.stack([member.probabilities[member.indices.argsort()] for member in members]).mean(dim=0)
    torch.testing.assert_close(found.probabilities, expected, rtol=0, atol=1e-6)


def test_certain_members_keep_a_finite_loss() -> None:
    certain = SplitPredictions(
        logits=torch.tensor([60.0, -90.0]),
        labels=torch.tensor([0, 1]),
        lengths=torch.ones(2, dtype=torch.int64),
        indices=torch.arange(2),
        classes=("negative", "positive"),
    )
    assert mean_predictions([certain, certain]).metrics()["loss"] == pytest.approx(75)
