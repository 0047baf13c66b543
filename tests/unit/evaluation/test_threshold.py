"""Thresholds: the best of all that there are, chosen on validation alone."""

from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import precision_recall_fscore_support

from textrnn.base.errors import InputError
from textrnn.config.schema import LABELS
from textrnn.evaluation.metrics import SplitPredictions, predictions_of
from textrnn.evaluation.threshold import (
    Labels,
    Rule,
    Scores,
    check_classes,
    choose_threshold,
    figures_at,
    measured_threshold,
    questions,
    read_rule,
    threshold_table,
)


def drawn(seed: int, reviews: int = 60, *, ties: bool = False) -> tuple[Scores, Labels]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, reviews)
    labels[0] = 1
    scores = 1 / (1 + np.exp(-(labels - 0.5) * 2 - generator.normal(size=reviews)))
    return (scores.round(1) if ties else scores), labels


def every_threshold(scores: Scores, labels: Labels) -> list[dict[str, float]]:
    """The figures of all ways to divide the scores, slowly."""
    places = [0.0, *np.unique(scores)[:-1]]
    found = [precision_recall_fscore_support(labels, scores > at, average="binary", zero_division=0) for at in places]
    return [{"precision": precision, "recall": recall, "f1": f1} for precision, recall, f1, _ in found]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_chosen_threshold_is_the_best_of_all(seed: int, ties: bool) -> None:
    scores, labels = drawn(seed, ties=ties)
    ways = every_threshold(scores, labels)
    threshold = choose_threshold(Rule("f1"), scores, labels)
    assert figures_at(threshold, scores, labels)["f1"] == pytest.approx(max(way["f1"] for way in ways))
    for wanted in (0.6, 0.8, 0.9):
        reaching = [way for way in ways if way["precision"] >= wanted]
        if not reaching:
            with pytest.raises(InputError, match=f"precision={wanted}: the highest precision on validation is 0"):
                choose_threshold(Rule("precision", wanted), scores, labels)
            continue
        at = figures_at(choose_threshold(Rule("precision", wanted), scores, labels), scores, labels)
        assert at["recall"] == pytest.approx(max(way["recall"] for way in reaching))
        assert at["precision"] >= wanted


def test_figures_are_scikit_learns() -> None:
    scores, labels = drawn(0)
    for threshold in (0.3, 0.5, 0.9, 1.0):
        expected = precision_recall_fscore_support(labels, scores > threshold, average="binary", zero_division=0)
        assert list(figures_at(threshold, scores, labels).values()) == pytest.approx(expected[:3])


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        (0.2, 0.9, 0.55),
        (0.99991, 0.99995, 0.99993),
        (0.5, np.nextafter(0.5, 1), 0.5),
        (1 - 3e-16, 1.0, 1 - 3e-16),
        (1e-9, 2e-9, 1.5e-9),
    ],
)
def test_a_threshold_is_short_and_divides_its_neighbors(below: float, above: float, expected: float) -> None:
    scores, labels = np.array([below, above]), np.array([0, 1])
    threshold = choose_threshold(Rule("f1"), scores, labels)
    assert threshold == pytest.approx(expected, rel=0.4)
    assert below <= threshold < above


def test_without_a_positive_review_none_can_be_chosen() -> None:
    with pytest.raises(InputError, match="no validation review has the label"):
        choose_threshold(Rule("f1"), np.array([0.5]), np.array([0]))
    assert choose_threshold(Rule("fixed", 0.3), np.array([0.5]), np.array([0])) == 0.3


@pytest.mark.parametrize(
    ("typed", "rule"),
    [
        ("f1", Rule("f1")),
        ("precision=0.95", Rule("precision", 0.95)),
        ("precision=1", Rule("precision", 1)),
        ("0.7", Rule("fixed", 0.7)),
    ],
)
def test_rules_are_read(typed: str, rule: Rule) -> None:
    assert read_rule(typed) == rule
    assert str(rule) == (typed if rule.kind != "fixed" else "given")


@pytest.mark.parametrize(
    "typed", ["", "F1", "f1=0.5", "precision", "precision=", "precision=1.5", "recall=0.9", "nan", "0"]
)
def test_other_rules_are_refused(typed: str) -> None:
    with pytest.raises(InputError, match=r"type f1, precision=0\.95 or a number"):
        read_rule(typed)


def test_more_classes_have_no_threshold() -> None:
    for classes, many in ((2, False), (2, True), (9, True)):
        check_classes(classes, many_labels=many)
    with pytest.raises(InputError, match="of the 4 classes of this run a text has the most probable one"):
        check_classes(4, many_labels=False)


def predictions(several: bool, seed: int, **others: Any) -> SplitPredictions:
    generator = torch.Generator().manual_seed(seed)
    shape = (300, 3) if several else (300,)
    labels = torch.randint(0, 2, shape, generator=generator)
    found = predictions_of(
        logits=2 * (2 * labels - 1) + 5 * torch.randn(shape, generator=generator),
        labels=labels,
        lengths=torch.ones(300, dtype=torch.int64),
        indices=torch.arange(300),
        classes=("a", "b", "c") if several else LABELS,
    )
    found.temperature = 4.0
    return found


@pytest.mark.parametrize("several", [False, True])
def test_it_is_chosen_on_validation_by_calibrated_probabilities(several: bool) -> None:
    validation, test = predictions(several, 1), predictions(several, 2)
    measured = measured_threshold(Rule("f1"), validation, "test", test)
    scores, labels = questions(validation)
    assert scores == pytest.approx((validation.logits.double() / 4).sigmoid().flatten().numpy())
    assert measured["threshold"] == choose_threshold(Rule("f1"), scores, labels)
    assert measured["temperature"] == 4
    rows = [(row["split"], row["threshold"]) for row in measured["figures"]]
    assert rows == [(name, at) for name in ("validation", "test") for at in (0.5, measured["threshold"])]
    assert measured["figures"][3] == rows_of(measured["threshold"], *questions(test))
    assert len(measured_threshold(Rule("fixed", 0.5), validation, "validation", validation)["figures"]) == 1
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(threshold_table(measured))
    assert f"threshold {measured['threshold']}, chosen on validation by f1" in shown.get()
    assert shown.get().count(f"{measured['figures'][3]['precision']:.4f}") >= 1


def rows_of(threshold: float, scores: Scores, labels: Labels) -> dict[str, Any]:
    return {"split": "test", "threshold": threshold, **figures_at(threshold, scores, labels)}
