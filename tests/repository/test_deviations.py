"""The benchmark of the tutorials' deviations: its variants and its computations are correct."""

from pathlib import Path

import numpy as np
import pytest
import torch

import deviations_choosing
import deviations_means
import deviations_picture
import pages
import run
from deviations_data import batched, buffered, pieces_in_turn
from deviations_model import Classifier, Recipe, Run
from report import Report
from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.model.network import TextClassifier

TOKEN_IDS = torch.tensor([[5, 3, 4, 2], [6, 2, 0, 0]])
LENGTHS = torch.tensor([4, 2])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_right_way_is_ours_and_the_padded_one_is_not(cell: str) -> None:
    torch.manual_seed(0)
    right = Classifier(Recipe(cell=cell, initialization="torch"), 7, hidden=3).eval()
    embedding = EmbeddingConfig(size=right.embedding.embedding_dim)
    config = ModelConfig(
        cell=cell,
        hidden_size=3,
        num_layers=2,
        bidirectional=False,
        pooling="last",
        embedding=embedding,
        implementation="fused",
    )
    ours = TextClassifier(config, 7).eval()
    # The same parameters in the same order, by other names.
    with torch.no_grad():
        for parameter, theirs in zip(ours.parameters(), right.parameters(), strict=True):
            parameter.copy_(theirs)
    expected = ours(TOKEN_IDS, LENGTHS)
    torch.testing.assert_close(right(TOKEN_IDS, LENGTHS), expected)

    padded = Classifier(Recipe(cell=cell, initialization="torch", last="padding"), 7, hidden=3).eval()
    padded.load_state_dict(right.state_dict())
    logits = padded(TOKEN_IDS, LENGTHS)
    torch.testing.assert_close(logits[0], expected[0])
    assert abs(logits[1] - expected[1]) > 1e-4
    torch.testing.assert_close(padded(TOKEN_IDS[1:, :2], LENGTHS[1:])[0], expected[1])


def test_dropout_is_where_each_tutorial_has_it() -> None:
    torch.manual_seed(0)
    inputs = torch.ones(6, 50, 8)

    def dropped(kind: str, *, first: bool) -> torch.Tensor:
        return Classifier(Recipe(dropout=kind), 7, hidden=3)._dropped(inputs, first=first)

    assert torch.equal(dropped("between", first=True), inputs)
    assert torch.equal(dropped("none", first=False), inputs)
    for first in (True, False):
        of_review = dropped("inputs", first=first)
        assert torch.equal(of_review, of_review[:1].expand_as(of_review))
        assert set(of_review.flatten().tolist()) == {0.0, 2.0}
    of_tokens = dropped("between", first=False)
    assert not torch.equal(of_tokens, of_tokens[:1].expand_as(of_tokens))


def test_a_buffer_lets_a_row_go_for_each_that_comes() -> None:
    rows = list(buffered(range(1000), 50, np.random.default_rng(0)))
    assert sorted(rows) == list(range(1000))
    assert max(row - place for place, row in enumerate(rows)) <= 50
    assert rows != list(range(1000))
    assert sorted(buffered(range(10), 50, np.random.default_rng(0))) == list(range(10))


def test_pieces_are_read_in_turn() -> None:
    assert pieces_in_turn(7, 3).tolist() == [0, 3, 6, 1, 4, 2, 5]
    assert [part.tolist() for part in batched(pieces_in_turn(4, 2), 3)] == [[0, 2, 1], [3]]


def test_the_best_of_many_is_expected_to_be_as_much_too_good_as_simulated() -> None:
    draws = np.random.default_rng(0).binomial(1000, 0.8, size=(20_000, 10)).max(axis=1) / 1000
    assert deviations_choosing.expected_excess(10, 0.8, 1000) == pytest.approx(100 * (draws.mean() - 0.8), abs=0.05)
    assert deviations_choosing.expected_excess(1, 0.8, 1000) == pytest.approx(0, abs=1e-6)


def test_a_short_last_batch_counts_as_much_as_a_whole_one() -> None:
    correct = np.array([True] * 4 + [False])
    assert deviations_means.batch_means(correct, 4).tolist() == [1, 0]


def test_validation_chooses_the_first_best_epoch() -> None:
    validation = [np.array(values) for values in ([True, False], [True, True], [True, True])]
    assert Run(steps=[], validation=validation, test=[], train=[]).best_epoch == 1


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_the_benchmark_runs_and_is_told_and_drawn(tmp_path: Path) -> None:
    assert run.main(["deviations", "--quick", "--output", str(tmp_path)]) == 0
    report = Report.read(tmp_path / "deviations.json")
    assert [claim.name[0] for claim in report.claims] == list("112223345")
    shares = [row for table in report.tables if table.unit == "%" for row in table.cells.values()]
    assert all(0 <= value <= 100 for row in shares for values in row.values() for value in values)
    batches = next(table for table in report.tables if table.title.startswith("4 stream: batches"))
    of_one_class = {way: cells["of one class"][0] for way, cells in batches.cells.items()}
    assert of_one_class["true shuffle"] < 5 < 50 < of_one_class["sorted file, buffer"]
    assert "1 padding: accuracy on the test reviews, measured once, %" in pages.render(["deviations"], tmp_path)
    deviations_picture.draw(report, tmp_path / "deviations.png")
    assert (tmp_path / "deviations.png").stat().st_size > 10_000
