from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubles.compared_runs import write_run

from textrnn.comparing.predictions import other_reviews, read_predictions


def test_predictions_are_right_as_written(tmp_path: Path) -> None:
    right = np.array([True, False, False, True, True])
    read = read_predictions(write_run(tmp_path / "a", right) / "evaluation-test")
    assert read.right.tolist() == right.tolist()
    assert read.of_label == pytest.approx([0.8, 0.1, 0.1 - 0.0, 0.9, 0.8], abs=0.11)
    assert not read.has_diverged


def test_several_classes_have_a_column_each(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"classes": ["a", "b, c", "d"]}')
    head = 'index,label,tokens,probability_a,"probability_b, c",probability_d'
    (tmp_path / "predictions.csv").write_text(f"{head}\n0,2,5,0.1,0.2,0.7\n1,0,5,0.1,0.2,0.7\n")
    assert read_predictions(tmp_path).right.tolist() == [True, False]


def test_several_labels_of_a_text_count_together(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"classes": ["a", "b"], "labels_per_text": "many"}')
    rows = ["0,0 1,5,0.9,0.6", "1,0 1,5,0.9,0.4", "2,,6,0.1,0.3", "3,1,7,0.6,0.7", "4,1,8,0.5,0.7"]
    (tmp_path / "predictions.csv").write_text("\n".join(["index,label,tokens,probability_a,probability_b", *rows, ""]))
    read = read_predictions(tmp_path)
    assert read.labels.tolist() == [[1, 1], [1, 1], [0, 0], [0, 1], [0, 1]]
    assert read.lengths.tolist() == [5, 5, 6, 7, 8]
    assert read.right.tolist() == [True, False, True, False, True]
    assert read.of_label == pytest.approx([0.54, 0.36, 0.63, 0.28, 0.35])
    places, names = read.label_sets()
    assert [names[place] for place in places] == ["a, b", "a, b", "no label", "b", "b"]
    assert other_reviews([read, read]) is None
    assert "labels differ in 3 of 5" in str(other_reviews([read, replace(read, labels=read.labels | [1, 0])]))


def test_other_reviews_are_told_by_labels_and_by_lengths(tmp_path: Path) -> None:
    first = read_predictions(write_run(tmp_path / "a", np.arange(100) > 9) / "evaluation-test")
    other_tokenizer = replace(first, lengths=first.lengths * 2)
    assert other_reviews([first, first, other_tokenizer]) is None
    assert "labels differ in 100" in str(other_reviews([first, replace(first, labels=1 - first.labels)]))
    shuffled = np.random.default_rng(0).permutation(first.lengths)
    assert "correlation" in str(other_reviews([first, replace(first, lengths=shuffled)]))
