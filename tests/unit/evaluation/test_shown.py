"""What an evaluation prints, at each width of a terminal."""

from pathlib import Path

import pytest
import torch

from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import SplitPredictions
from textrnn.evaluation.shown import show


class Texts(Split):
    """A split of which only the texts are asked."""

    def __init__(self, texts: list[str]) -> None:
        self._all = texts

    def __len__(self) -> int:
        return len(self._all)

    def text(self, index: int) -> str:
        return self._all[index]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_title_and_mistakes_are_whole_and_each_mistake_has_its_own_text(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = [f"{'a long review with [b]markup[/b] ' * 20}number {place}" for place in range(1000)]
    predictions = SplitPredictions(  # read in another order than that of the rows, as batches of similar length are
        logits=torch.tensor([2.0, -3.0, 1.0, 0.5]),
        labels=torch.tensor([0, 1, 1, 0]),
        lengths=torch.tensor([9, 8, 7, 6]),
        indices=torch.tensor([3, 1, 0, 2]),
        classes=("negative", "positive"),
    )
    path = Path("runs/2026-11-29-10-00-00-gru-s0-abcdefgh/checkpoints/best.ckpt")
    show("test", predictions, Texts(texts), str(path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path} on test (1,000 reviews)"
    assert max(map(len, lines[1:])) <= columns
    rows = [line.split()[:5:2] for line in lines if line.startswith((" positive", " negative"))]
    wrong = [("positive", "negative", "0.9526"), ("negative", "positive", "0.8808"), ("negative", "positive", "0.6225")]
    assert rows == [list(row) for row in wrong]
    assert [line.split()[-1] for line in lines if "number" in line] == ["1", "3", "2"]


@pytest.mark.parametrize("classes", [3, 25])
def test_each_of_a_few_classes_has_its_row_and_of_many_the_worst_ten(
    classes: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reviews = 4 * classes
    labels = torch.arange(reviews) % classes
    logits = torch.eye(classes)[labels]
    logits[0] = torch.eye(classes)[1] * 3
    names = ("[b]World\n news[/b]", *(f"class {number} of a very long name" for number in range(1, classes)))
    predictions = SplitPredictions(
        logits=logits,
        labels=labels,
        lengths=torch.ones(reviews, dtype=torch.int64),
        indices=torch.arange(reviews),
        classes=names,
    )
    show("test", predictions, Texts([f"review {number}" for number in range(reviews)]), "best.ckpt")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    figures = [line.split("│") for line in lines if line.count("│") == 4]
    assert [cell.strip() for cell in figures[0]] == ["[b]World news[/b]", "4", "0.7500", "1.0000", "0.8571"]
    assert len(figures) == (classes if classes == 3 else 10)
    assert ("the 10 of 25 classes that are lowest in F1" in lines) == (classes == 25)
    (mistake,) = (line.split("│") for line in lines if "review 0" in line)
    assert [cell.strip() for cell in mistake[:2]] == ["[b]World news[/b]", "class 1 of a very long …"]
