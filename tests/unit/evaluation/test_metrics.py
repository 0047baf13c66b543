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

from textrnn.evaluation.metrics import SplitPredictions, thinned, wilson_interval
from textrnn.evaluation.report import read_evaluation, write_evaluation


def _predictions(reviews: int = 500, *, seed: int = 0, ties: bool = False) -> SplitPredictions:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (reviews,), generator=generator)
    logits = (2 * labels - 1) * 0.7 + torch.randn(reviews, generator=generator)
    return SplitPredictions(
        logits=logits.round() if ties else logits,
        labels=labels,
        lengths=torch.randint(1, 300, (reviews,), generator=generator),
        indices=torch.randperm(reviews, generator=generator),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_figures_and_curves_are_scikit_learns(ties: bool) -> None:
    predictions = _predictions(ties=ties)
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    predicted = (probabilities > 0.5).astype(int)
    metrics = predictions.metrics()
    assert metrics["loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted), abs=1e-6)
    assert metrics["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted), abs=1e-6)
    assert metrics["auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities), abs=1e-6)
    assert predictions.average_precision() == pytest.approx(
        sklearn_metrics.average_precision_score(labels, probabilities), abs=1e-6
    )
    assert predictions.confusion_matrix() == sklearn_metrics.confusion_matrix(labels, predicted).tolist()
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    assert np.allclose(predictions.roc(), (false_positives, true_positives), atol=1e-6)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, probabilities)
    assert np.allclose(predictions.precision_recall(), (recall[::-1], precision[::-1]), atol=1e-6)


def test_mistakes_are_the_wrong_ones_the_most_confident_first() -> None:
    predictions = SplitPredictions(
        logits=torch.tensor([3.0, -1.0, 4.0, -0.5, torch.nan, 2.0]),
        labels=torch.tensor([0, 1, 1, 0, 1, 0]),
        lengths=torch.ones(6, dtype=torch.int64),
        indices=torch.arange(6),
    )
    assert predictions.mistakes(10) == [0, 5, 1, 4]
    assert predictions.mistakes(2) == [0, 5]
    assert predictions.mistakes(0) == []
    predictions.logits[5], predictions.indices = 3.0, torch.arange(6).flip(0)
    assert predictions.mistakes(2) == [5, 0], "of equal ones the first in the split, in whatever order they were read"


def test_reviews_of_similar_length_are_together() -> None:
    predictions = _predictions()
    bins = predictions.by_length(4)
    assert sum(group.reviews for group in bins) == 500
    assert [group.reviews for group in bins] == pytest.approx([125] * 4, abs=5)
    assert all(before.longest < after.shortest for before, after in itertools.pairwise(bins))
    for group in bins:
        inside = (predictions.lengths >= group.shortest) & (predictions.lengths <= group.longest)
        assert group.reviews == int(inside.sum())
        assert group.accuracy == pytest.approx(float(predictions.correct[inside].float().mean()))
        assert 0 <= group.low < group.accuracy < group.high <= 1
    predictions.lengths = torch.full((500,), 7)
    (group,) = predictions.by_length()
    assert (group.shortest, group.longest, group.reviews) == (7, 7, 500)


@given(correct=st.integers(0, 40), count=st.integers(1, 40))
def test_an_interval_is_where_the_share_is_not_far_out(correct: int, count: int) -> None:
    """Wilson's interval holds the probabilities from which the share is less than the width away."""
    share = min(correct, count) / count
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)


def test_one_label_has_no_curve_and_a_diverged_run_is_measured() -> None:
    predictions = _predictions(30)
    predictions.labels = torch.zeros_like(predictions.labels)
    assert not predictions.both_labels
    assert set(predictions.metrics()) == {"loss", "accuracy", "f1"}
    diverged = _predictions(30)
    diverged.logits = torch.full((30,), torch.nan)
    assert set(diverged.metrics()) == {"loss", "accuracy", "f1", "auroc"}
    assert all(map(math.isnan, diverged.metrics().values()))
    assert sum(map(sum, diverged.confusion_matrix())) == 30


def test_one_nan_logit_makes_all_metrics_nan() -> None:
    predictions = _predictions(30)
    assert not any(map(math.isnan, predictions.metrics().values()))
    predictions.logits[3] = torch.nan
    assert all(map(math.isnan, predictions.metrics().values()))


def test_logits_between_0_and_1_are_not_taken_for_probabilities() -> None:
    predictions = _predictions(3)
    predictions.logits, predictions.labels = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 1, 0])
    assert predictions.metrics()["accuracy"] == pytest.approx(2 / 3)


def test_metrics_of_a_diverged_run_are_null_on_the_disk(tmp_path: Path, undrawn: None) -> None:
    diverged = _predictions(30)
    diverged.logits[3] = torch.nan
    write_evaluation(tmp_path, diverged, split="test", name="a run", max_length=9, mistakes=3, text=str)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert written == {"test/loss": None, "test/accuracy": None, "test/f1": None, "test/auroc": None, "reviews": 30}


@pytest.mark.usefixtures("undrawn")
def test_predictions_are_read_as_they_were_written_if_they_are_the_runs(tmp_path: Path) -> None:
    predictions = _predictions(200)
    loss = predictions.metrics()["loss"]
    assert read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss}) is None
    write_evaluation(tmp_path, predictions, split="validation", name="a run", max_length=9, mistakes=3, text=str)
    read = read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss})
    assert read is not None
    order = predictions.indices.argsort()
    assert torch.equal(read.indices, predictions.indices[order])
    assert torch.equal(read.labels, predictions.labels[order])
    assert torch.equal(read.lengths, predictions.lengths[order])
    assert torch.allclose(read.probabilities.float(), predictions.probabilities[order], rtol=1e-5)
    assert read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss + 0.1}) is None
    assert read_evaluation(tmp_path, split="test", metrics={"test/loss": loss}) is None


def test_a_thinned_curve_keeps_its_ends() -> None:
    x, y = np.linspace(0, 1, 10_001), np.linspace(0, 1, 10_001) ** 2
    across, up = thinned((x, y), 100)
    assert len(across) == len(up) == 100
    assert (across[0], across[-1]) == (0.0, 1.0)
    assert np.allclose(up, across**2)
    assert np.array_equal(thinned((x[:7], y[:7]))[0], x[:7])
