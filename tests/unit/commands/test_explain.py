"""The command `explain`: what it writes where, and what it refuses before it loads anything."""

import csv
from pathlib import Path

import pytest
import torch
from doubles.tiny_checkpoint import write_checkpoint

from textrnn.base.errors import InputError
from textrnn.commands.evaluate import _explain_mistakes
from textrnn.commands.explain import _table, main
from textrnn.config.schema import DataConfig
from textrnn.data.review_file import Split
from textrnn.data.tokenizer import train_tokenizer
from textrnn.evaluation.metrics import SplitPredictions
from textrnn.reporting.explanation_page import Shown
from textrnn.sharing.trained_model import TrainedModel
from textrnn.training.checkpoints import load_checkpoint

TEXTS = ["a fine film", "a dull film", "a film"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with an evaluation of three mistakes; the working directory is beside it."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    write_checkpoint(
        folder / "checkpoints" / "best.ckpt", train_tokenizer(TEXTS, "word", 10), DataConfig(source="synthetic")
    )
    (folder / "evaluation-test").mkdir()
    with (folder / "evaluation-test" / "mistakes.csv").open("w", newline="") as file:
        rows = [(index, index % 2, "0.9", text) for index, text in enumerate([*TEXTS[:2], f"{'long ' * 40_000}film"])]
        csv.writer(file).writerows([("index", "label", "probability", "text"), *rows])
    monkeypatch.chdir(tmp_path)
    return folder


def test_typed_texts_are_explained_on_a_page_here(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "a fine film", "<b>dull</b>"]) == 0
    page = Path("explanation.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 2
    assert "&lt;</span>" in page
    assert [path.name for path in run.iterdir()] == ["checkpoints", "evaluation-test"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["1/2", "2/2", "explanation:"]
    assert main(["run", "a fine film", "--class", "negative", "--output", "why.htm"]) == 0
    assert "1. negative: " in Path("why.htm").read_text(encoding="utf-8")


def test_mistakes_are_explained_beside_their_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--mistakes", "2"]) == 0
    page = (run / "evaluation-test" / "mistakes.html").read_text(encoding="utf-8")
    assert [page.count(f"the true label is {name}") for name in ("negative", "positive")] == [1, 1]
    assert "most confident mistakes on test" in page
    assert "only" not in capsys.readouterr().out
    assert main(["run", "--mistakes", "4", "--output", "all.html"]) == 0
    assert Path("all.html").read_text(encoding="utf-8").count("<section>") == 3
    assert (
        "only 3 of 4 mistakes; for more type python evaluate.py RUN --split test --mistakes 4"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give texts, or --mistakes N"),
        (["a", "--mistakes", "2"], "give texts, or --mistakes N"),
        (["a", "--split", "validation"], "add --mistakes N"),
        (["--mistakes", "0"], "at least 1"),
        (["a", "--wandb"], "--wandb is for mistakes of a run directory; add --mistakes N"),
        (["--mistakes", "2", "--wandb"], "run.json' can't be read"),
        (["fine", "\udcff"], "text 2 is not UTF-8"),
        (["a", "--output", "x.csv"], r"ends with \.html"),
        (["a", "--output", "no/such/x.html"], "there is no folder no/such"),
        (["--mistakes", "2", "--split", "train"], "--split train --mistakes 2 first"),
        (["a", "--class", "great"], "the classes are negative, positive"),
    ],
)
def test_wrong_input_says_what_to_type(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main([str(run), *arguments])
    assert not list(run.parent.glob("*.html"))


def test_a_table_for_w_and_b_has_the_words_and_a_page_for_each_text(run: Path) -> None:
    explanations = TrainedModel(load_checkpoint(run)).explain(["a fine film", "fine fine"])
    table = _table([Shown(explanation, "negative") for explanation in explanations])
    assert table.columns == ["true", "label", "probability", "words for", "words against", "text"]
    for row, explanation in zip(table.data, explanations, strict=True):
        assert row[:3] == ["negative", explanation.label, explanation.probability]
        told = {word.split()[0] for word in ", ".join(row[3:5]).split(", ") if word}
        assert told == set(explanation.text.split())
        assert "<section>" in row[5].html


def test_an_evaluation_without_mistakes_or_with_damage_is_refused(run: Path) -> None:
    path = run / "evaluation-test" / "mistakes.csv"
    path.write_text("index,label,probability,text\n")
    with pytest.raises(InputError, match="has no mistakes"):
        main([str(run), "--mistakes", "2"])
    path.write_bytes(b"index,label,probability,text\n0,1,0.9,\xff\n")
    with pytest.raises(InputError, match="can't be read"):
        main([str(run), "--mistakes", "2"])


def test_evaluate_explains_the_worst_mistakes(run: Path) -> None:
    class Texts(Split):
        def __init__(self) -> None:
            pass

        def text(self, index: int) -> str:
            return TEXTS[index]

    predictions = SplitPredictions(
        logits=torch.tensor([2.0, -3.0, 1.0]),
        labels=torch.tensor([0, 1, 1]),
        lengths=torch.tensor([3, 3, 2]),
        indices=torch.tensor([0, 1, 2]),
        classes=("negative", "positive"),
    )
    for most, sections in ((5, 2), (1, 1), (0, 0)):
        _explain_mistakes(run, load_checkpoint(run), predictions, Texts(), "test", most)
        page = (run / "mistakes.html").read_text(encoding="utf-8")
        assert page.count("<section>") == sections
