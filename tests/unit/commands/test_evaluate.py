"""What `evaluate.py` shows."""

from pathlib import Path

import pytest
import torch

from textrnn.commands.evaluate import show
from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import SplitPredictions


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
    )
    path = Path("runs/2026-11-29-10-00-00-gru-s0-abcdefgh/checkpoints/best.ckpt")
    show("test", predictions, Texts(texts), path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path} on test (1,000 reviews)"
    assert max(map(len, lines[1:])) <= columns
    rows = [line.split()[:5:2] for line in lines if line.startswith((" positive", " negative"))]
    wrong = [("positive", "negative", "0.9526"), ("negative", "positive", "0.8808"), ("negative", "positive", "0.6225")]
    assert rows == [list(row) for row in wrong]
    assert [line.split()[-1] for line in lines if "number" in line] == ["1", "3", "2"]
