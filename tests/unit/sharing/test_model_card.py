"""The model card: the run's own numbers, their spread over seeds where there are more, and metadata for the Hub."""

from pathlib import Path
from typing import Any

import pytest
from doubles.shared_runs import write_run
from huggingface_hub import ModelCard

from textrnn.config.schema import DataConfig
from textrnn.sharing.model_card import model_card, public_command, results_of
from textrnn.training.checkpoints import load_checkpoint


def card_of(run: Path, *, onnx: bool = False) -> str:
    return model_card(load_checkpoint(run), "alice/tiny", run, results_of(run), onnx=onnx)


def metadata(card: str) -> dict[str, Any]:
    """The card's metadata as the Hub's client reads them."""
    found: dict[str, Any] = ModelCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    card = card_of(write_run(tmp_path / "run"))
    assert "| accuracy | 0.7500 | 0.7000 |" in card
    assert "results of one seed" in card
    assert "| train | 10 | 100 |" in card
    assert "Fingerprint of texts and tokens: `f00d`" in card
    assert "    textrnn train data.path=reviews.csv\n" in card
    assert "1,234 parameters, 5,678 tokens in 1 min 1 s on one process" in card
    assert "the last 20 tokens of a text" in card
    assert "model.onnx" not in card
    assert "`model.onnx` needs only onnxruntime" in card_of(tmp_path / "run", onnx=True)


def test_seeds_of_its_multirun_give_mean_and_deviation(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.7, 0.8, 0.9)):
        write_run(tmp_path / "runs" / str(seed), seed=seed, accuracy=accuracy)
    assert "results of one seed" in card_of(tmp_path / "runs" / "0")
    (tmp_path / "runs" / "jobs.json").write_text("{}")
    card = card_of(tmp_path / "runs" / "0")
    assert "| accuracy | 0.7000 | 0.8000 ± 0.1000 | 0.6500 | 0.7500 ± 0.1000 |" in card
    assert "over the seeds 0, 1, 2; the weights are of one of these runs" in card


def test_the_metadata_are_those_of_the_hub(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    data = metadata(card_of(run, onnx=True))
    assert (data["library_name"], data["pipeline_tag"]) == ("textrnn", "text-classification")
    assert data["tags"] == ["textrnn", "pytorch", "gru", "onnx"]
    assert "datasets" not in data
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"] == {"name": "reviews.csv", "type": "own", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": pytest.approx(0.7)}]
    checkpoint = load_checkpoint(run)
    checkpoint.config.data = DataConfig()
    checkpoint.data["revision"] = "abc"
    card = model_card(checkpoint, "alice/tiny", run, results_of(run), onnx=False)
    assert metadata(card)["datasets"] == ["stanfordnlp/imdb"]
    assert "[stanfordnlp/imdb](https://huggingface.co/datasets/stanfordnlp/imdb), commit `abc`" in card


def test_a_checkpoint_alone_has_no_results(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run") / "checkpoints" / "best.ckpt"
    card = card_of(run)
    assert "The run's results are not known." in card
    assert "model-index" not in metadata(card)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["train.py", "model=gru", "seed=1"], "textrnn train model=gru seed=1"),
        (["__main__.py", "train", "run_dir=/x/y"], "textrnn train"),
        (["/usr/bin/textrnn", "train", "data.path=[/a/b.csv,~/c/d.csv]"], "textrnn train data.path=[b.csv,d.csv]"),
        (["train.py", "data.path=../../a/*.csv", "tracking=none", "tracking.notes=x"], "textrnn train data.path=*.csv"),
        (["train.py", "model.pretrained=/runs/lm/", "+resume=auto"], "textrnn train model.pretrained=lm/"),
        (["train.py", "data.repo=stanfordnlp/imdb"], "textrnn train data.repo=stanfordnlp/imdb"),
    ],
)
def test_the_command_without_places(command: list[str], shown: str) -> None:
    assert " ".join(public_command({"command": command})) == shown


def test_a_run_without_a_command() -> None:
    assert public_command({}) == ["textrnn"]
