import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from textrnn.evaluation.metrics import Measured, thinned, wilson_interval
from textrnn.evaluation.report import write_evaluation


def _measured(reviews: int = 500, *, seed: int = 0, ties: bool = False) -> Measured:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (reviews,), generator=generator)
    logits = (2 * labels - 1) * 0.7 + torch.randn(reviews, generator=generator)
    return Measured(
        logits=logits.round() if ties else logits,
        labels=labels,
        lengths=torch.randint(1, 300, (reviews,), generator=generator),
        indices=torch.randperm(reviews, generator=generator),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_figures_and_curves_are_scikit_learns(ties: bool) -> None:
    measured = _measured(ties=ties)
    probabilities, labels = measured.probabilities.double().numpy(), measured.labels.numpy()
    told = (probabilities > 0.5).astype(int)
    metrics = measured.metrics()
    assert metrics["loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, told), abs=1e-6)
    assert metrics["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, told), abs=1e-6)
    assert metrics["auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities), abs=1e-6)
    assert measured.average_precision() == pytest.approx(
        sklearn_metrics.average_precision_score(labels, probabilities), abs=1e-6
    )
    assert measured.confusion_matrix() == sklearn_metrics.confusion_matrix(labels, told).tolist()
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    assert np.allclose(measured.roc(), (false_positives, true_positives), atol=1e-6)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, probabilities)
    assert np.allclose(measured.precision_recall(), (recall[::-1], precision[::-1]), atol=1e-6)


def test_mistakes_are_the_wrong_ones_the_most_confident_first() -> None:
    measured = Measured(
        logits=torch.tensor([3.0, -1.0, 4.0, -0.5, torch.nan, 2.0]),
        labels=torch.tensor([0, 1, 1, 0, 1, 0]),
        lengths=torch.ones(6, dtype=torch.int64),
        indices=torch.arange(6),
    )
    assert measured.mistakes(10) == [0, 5, 1, 4]
    assert measured.mistakes(2) == [0, 5]
    assert measured.mistakes(0) == []


def test_reviews_of_similar_length_are_together() -> None:
    measured = _measured()
    bins = measured.by_length(4)
    assert sum(group.reviews for group in bins) == 500
    assert [group.reviews for group in bins] == pytest.approx([125] * 4, abs=5)
    assert all(before.longest < after.shortest for before, after in itertools.pairwise(bins))
    for group in bins:
        inside = (measured.lengths >= group.shortest) & (measured.lengths <= group.longest)
        assert group.reviews == int(inside.sum())
        assert group.accuracy == pytest.approx(float(measured.right[inside].float().mean()))
        assert 0 <= group.low < group.accuracy < group.high <= 1
    measured.lengths = torch.full((500,), 7)
    (group,) = measured.by_length()
    assert (group.shortest, group.longest, group.reviews) == (7, 7, 500)


@given(right=st.integers(0, 40), count=st.integers(1, 40))
def test_an_interval_is_where_the_share_is_not_far_out(right: int, count: int) -> None:
    """Wilson's interval holds the probabilities from which the share is less than the width away."""
    share = min(right, count) / count
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)


def test_one_label_has_no_curve_and_a_diverged_run_is_measured() -> None:
    measured = _measured(30)
    measured.labels = torch.zeros_like(measured.labels)
    assert not measured.both_labels
    assert set(measured.metrics()) == {"loss", "accuracy", "f1"}
    diverged = _measured(30)
    diverged.logits = torch.full((30,), torch.nan)
    assert set(diverged.metrics()) == {"loss", "accuracy", "f1", "auroc"}
    assert all(map(math.isnan, diverged.metrics().values()))
    assert sum(map(sum, diverged.confusion_matrix())) == 30


def test_metrics_of_a_diverged_run_are_null_on_the_disk(tmp_path: Path, undrawn: None) -> None:
    diverged = _measured(30)
    diverged.logits[3] = torch.nan
    write_evaluation(tmp_path, diverged, split="test", name="a run", max_length=9, mistakes=3, text=str)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert written == {"test/loss": None, "test/accuracy": None, "test/f1": None, "test/auroc": None, "reviews": 30}


def test_a_thinned_curve_keeps_its_ends() -> None:
    x, y = np.linspace(0, 1, 10_001), np.linspace(0, 1, 10_001) ** 2
    across, up = thinned((x, y), 100)
    assert len(across) == len(up) == 100
    assert (across[0], across[-1]) == (0.0, 1.0)
    assert np.allclose(up, across**2)
    assert np.array_equal(thinned((x[:7], y[:7]))[0], x[:7])
