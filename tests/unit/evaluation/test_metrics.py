import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import binary_accuracy, binary_auroc, binary_f1_score

from textrnn.config.schema import LABELS
from textrnn.evaluation.figures import most_confused, thinned
from textrnn.evaluation.metrics import LabelSetPredictions, SplitPredictions, predictions_of
from textrnn.evaluation.report import mistake_table, read_evaluation, write_evaluation


def _predictions(reviews: int = 500, *, seed: int = 0, ties: bool = False) -> SplitPredictions:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (reviews,), generator=generator)
    logits = (2 * labels - 1) * 0.7 + torch.randn(reviews, generator=generator)
    return SplitPredictions(
        logits=logits.round() if ties else logits,
        labels=labels,
        lengths=torch.randint(1, 300, (reviews,), generator=generator),
        indices=torch.randperm(reviews, generator=generator),
        classes=LABELS,
    )


def _of_more(reviews: int = 500, *, seed: int = 0, classes: int = 5, present: int = 5) -> SplitPredictions:
    """Predictions of `classes` classes, of which the split has only the first `present`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, present, (reviews,), generator=generator)
    logits = torch.randn(reviews, classes, generator=generator)
    logits[torch.arange(reviews), labels] += 1
    return SplitPredictions(
        logits=logits,
        labels=labels,
        lengths=torch.randint(1, 300, (reviews,), generator=generator),
        indices=torch.randperm(reviews, generator=generator),
        classes=tuple(f'class,\n "{number}"' for number in range(classes)),
    )


def test_figures_of_several_labels_are_scikit_learns(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (300, 4), generator=generator)
    labels[:, 3] = 1  # a class that every review has: it has no curve
    logits = (2 * labels - 1) * 0.7 + torch.randn(300, 4, generator=generator, dtype=torch.float64)
    predictions = predictions_of(
        logits=logits,
        labels=labels,
        lengths=torch.randint(1, 300, (300,), generator=generator),
        indices=torch.randperm(300, generator=generator),
        classes=("a", "b, c", "d", "e"),
    )
    probabilities, predicted, metrics = logits.sigmoid().numpy(), logits.numpy() > 0, predictions.metrics()
    assert list(metrics) == ["loss", "accuracy", "f1", "auroc"]
    losses = [sklearn_metrics.log_loss(labels[:, c], probabilities[:, c], labels=[0, 1]) for c in range(4)]
    areas = [sklearn_metrics.roc_auc_score(labels[:, c], probabilities[:, c]) for c in range(3)]
    assert metrics["loss"] == pytest.approx(np.mean(losses))
    assert metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert metrics["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="macro"))
    assert metrics["auroc"] == pytest.approx(np.mean(areas))
    assert isinstance(predictions, LabelSetPredictions)
    assert predictions.f1_micro() == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="micro"))
    recalls = sklearn_metrics.recall_score(labels, predicted, average=None)
    assert [figures.accuracy for figures in predictions.by_class()] == pytest.approx(recalls)
    assert predictions.confidences.numpy() == pytest.approx(
        np.where(predicted, probabilities, 1 - probabilities).prod(axis=1)
    )
    worst = predictions.mistakes(5)
    assert [float(predictions.confidences[place]) for place in worst] == sorted(
        (float(predictions.confidences[place]) for place in worst), reverse=True
    )

    write_evaluation(
        tmp_path, predictions, split="test", name="run", max_length=400, mistakes=5, text=lambda row: f"text {row}"
    )
    again = read_evaluation(tmp_path, split="test", metrics={"test/loss": metrics["loss"]})
    assert again is not None
    by_row = predictions.indices.argsort()
    assert torch.equal(again.labels, predictions.labels[by_row])
    torch.testing.assert_close(again.probabilities, predictions.probabilities[by_row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("present", [5, 4])
def test_figures_and_curves_of_more_classes_are_scikit_learns(present: int) -> None:
    predictions = _of_more(present=present)
    probabilities, labels = predictions.probabilities.numpy(), predictions.labels.numpy()
    predicted, names = probabilities.argmax(axis=1), list(range(5))
    metrics = predictions.metrics()
    assert list(metrics) == ["loss", "accuracy", "f1", "auroc"]
    assert metrics["loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=names), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted), abs=1e-6)
    assert metrics["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="macro"), abs=1e-6)
    columns = [(labels == number, probabilities[:, number]) for number in range(present)]
    areas = [sklearn_metrics.roc_auc_score(*column) for column in columns]
    assert metrics["auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    if present == 5:
        macro = sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert metrics["auroc"] == pytest.approx(macro, abs=1e-6)
    precisions = [sklearn_metrics.average_precision_score(*column) for column in columns]
    assert predictions.average_precision() == pytest.approx(np.mean(precisions), abs=1e-6)
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=names)
    assert predictions.confusion_matrix() == expected.tolist()
    curves = predictions.rocs()
    assert list(curves) == list(range(present))
    for column, curve in zip(columns, curves.values(), strict=True):
        false_positives, true_positives, _ = sklearn_metrics.roc_curve(*column, drop_intermediate=False)
        assert np.allclose(curve, (false_positives, true_positives), atol=1e-6)
    across, up = predictions.mean_roc()
    assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(up, across) == pytest.approx(metrics["auroc"], abs=0.01)
    figures = predictions.by_class()
    table = sklearn_metrics.precision_recall_fscore_support(labels, predicted, labels=names[:present])
    found = [(of.precision, of.accuracy, of.f1, of.reviews) for of in figures]
    assert np.allclose(found, np.transpose(table), atol=1e-6)
    assert all(of.low < of.accuracy < of.high for of in figures)


def test_figures_of_two_classes_are_those_of_one_logit_bit_for_bit() -> None:
    predictions = _predictions()
    probabilities, labels = predictions.logits.sigmoid(), predictions.labels
    assert predictions.metrics() == {
        "loss": torch.nn.functional.binary_cross_entropy_with_logits(predictions.logits, labels.float()).item(),
        "accuracy": binary_accuracy(probabilities, labels).item(),
        "f1": binary_f1_score(probabilities, labels).item(),
        "auroc": binary_auroc(probabilities, labels).item(),
    }


@pytest.mark.parametrize("predictions", [_predictions(), _of_more()])
def test_the_calibration_error_is_guos(predictions: SplitPredictions) -> None:
    confidence, predicted = (part.numpy() for part in predictions.probabilities.max(dim=1))
    correct = predicted == predictions.labels.numpy()
    error = 0.0
    for number in range(15):
        inside = (confidence >= number / 15) & (confidence < (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert predictions.calibration_error() == pytest.approx(error, abs=1e-6)
    bins = predictions.by_confidence()
    assert sum(group.reviews for group in bins) == 500
    assert sum(group.reviews * abs(group.accuracy - group.confidence) for group in bins) / 500 == pytest.approx(
        error, abs=1e-9
    )


@pytest.mark.parametrize("ties", [False, True])
def test_figures_and_curves_are_scikit_learns(ties: bool) -> None:
    predictions = _predictions(ties=ties)
    probabilities, labels = predictions.probabilities[:, 1].numpy(), predictions.labels.numpy()
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
    assert np.allclose(predictions.rocs()[1], (false_positives, true_positives), atol=1e-6)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, probabilities)
    assert np.allclose(predictions.precision_recall(), (recall[::-1], precision[::-1]), atol=1e-6)


def test_mistakes_are_the_wrong_ones_the_most_confident_first() -> None:
    predictions = SplitPredictions(
        logits=torch.tensor([3.0, -1.0, 4.0, -0.5, torch.nan, 2.0]),
        labels=torch.tensor([0, 1, 1, 0, 1, 0]),
        lengths=torch.ones(6, dtype=torch.int64),
        indices=torch.arange(6),
        classes=LABELS,
    )
    assert predictions.mistakes(10) == [0, 5, 1, 4]
    assert predictions.mistakes(2) == [0, 5]
    assert predictions.mistakes(0) == []
    predictions.logits[5], predictions.indices = 3.0, torch.arange(6).flip(0)
    assert predictions.mistakes(2) == [5, 0], "of equal ones the first in the split, in whatever order they were read"


def test_mistakes_of_more_classes_have_both_names_and_the_probability_of_the_predicted_one() -> None:
    predictions = SplitPredictions(
        logits=torch.tensor([[0.0, 60, 0], [0, 90, 0], [0, 0, 5], [2, 0, 1], [torch.nan, 0, 0]]),
        labels=torch.tensor([0, 2, 2, 1, 1]),
        lengths=torch.ones(5, dtype=torch.int64),
        indices=torch.arange(5),
        classes=("World", "Sports", "Sci, Tech"),
    )
    assert predictions.confidences[0] == predictions.confidences[1] == 1, "as far as numbers go"
    table = mistake_table(predictions, 3, str)
    assert table.columns == ("index", "true", "predicted", "probability", "text")
    assert table.rows == [
        [1, "Sci, Tech", "Sports", "1.0000", "1"],
        [0, "World", "Sports", "1.0000", "0"],
        [3, "Sports", "World", "0.6652", "3"],
    ]


def test_mistakes_of_sentiment_have_the_probability_of_the_predicted_label() -> None:
    predictions = _predictions(50)
    table = mistake_table(predictions, 3, str)
    assert table.columns == ("index", "label", "probability", "text")
    for (_, label, probability, _), place in zip(table.rows, predictions.mistakes(3), strict=True):
        positive = float(predictions.logits[place].sigmoid())
        assert float(probability) == pytest.approx(1 - positive if label else positive, abs=1e-4)
        assert float(probability) > 0.5
    predictions.classes = ("ham", "spam")
    assert mistake_table(predictions, 1, str).rows[0][1:3] in (["ham", "spam"], ["spam", "ham"])


def test_the_most_confused_classes_are_kept_in_their_order() -> None:
    counts = np.array([[9, 0, 0, 1], [0, 9, 0, 0], [0, 0, 5, 4], [2, 0, 0, 7]])
    assert most_confused(counts, 2).tolist() == [2, 3]
    assert most_confused(counts, 3).tolist() == [0, 2, 3]
    assert most_confused(counts, 9).tolist() == [0, 1, 2, 3]


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


def test_one_label_has_no_curve_and_a_diverged_run_is_measured() -> None:
    predictions = _predictions(30)
    predictions.labels = torch.zeros_like(predictions.labels)
    assert not predictions.curve_classes
    assert set(predictions.metrics()) == {"loss", "accuracy", "f1"}
    diverged = _predictions(30)
    diverged.logits = torch.full((30,), torch.nan)
    assert set(diverged.metrics()) == {"loss", "accuracy", "f1", "auroc"}
    assert all(map(math.isnan, diverged.metrics().values()))
    assert sum(map(sum, diverged.confusion_matrix())) == 30


@pytest.mark.parametrize("predictions", [_predictions(30), _of_more(30)])
def test_one_nan_logit_makes_all_metrics_nan(predictions: SplitPredictions) -> None:
    assert not any(map(math.isnan, predictions.metrics().values()))
    predictions.logits[3] = torch.nan
    assert all(map(math.isnan, [*predictions.metrics().values(), predictions.calibration_error()]))


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
    assert written == {"test/loss": None, "test/accuracy": None, "test/f1": None, "test/auroc": None} | {
        "test/calibration_error": None,
        "reviews": 30,
        "classes": ["negative", "positive"],
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("predictions", [_predictions(200), _of_more(200)])
def test_predictions_are_read_as_they_were_written_if_they_are_the_runs(
    predictions: SplitPredictions, tmp_path: Path
) -> None:
    loss, predictions.temperature = predictions.metrics()["loss"], 1.7
    assert read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss}) is None
    write_evaluation(tmp_path, predictions, split="validation", name="a run", max_length=9, mistakes=3, text=str)
    read = read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss})
    assert read is not None
    assert read.classes == predictions.classes
    order = predictions.indices.argsort()
    assert read.temperature == 1.7
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["temperature"] == 1.7
    assert written["validation/calibration_error"] == predictions.calibration_error()
    assert written["validation/calibration_error_scaled"] == predictions.calibrated().calibration_error()
    assert torch.equal(read.indices, predictions.indices[order])
    assert torch.equal(read.labels, predictions.labels[order])
    assert torch.equal(read.lengths, predictions.lengths[order])
    assert torch.allclose(read.probabilities, predictions.probabilities[order], atol=2e-6)
    assert read_evaluation(tmp_path, split="validation", metrics={"val/loss": loss + 0.1}) is None
    assert read_evaluation(tmp_path, split="test", metrics={"test/loss": loss}) is None


def test_a_thinned_curve_keeps_its_ends() -> None:
    x, y = np.linspace(0, 1, 10_001), np.linspace(0, 1, 10_001) ** 2
    across, up = thinned((x, y), 100)
    assert len(across) == len(up) == 100
    assert (across[0], across[-1]) == (0.0, 1.0)
    assert np.allclose(up, across**2)
    assert np.array_equal(thinned((x[:7], y[:7]))[0], x[:7])
