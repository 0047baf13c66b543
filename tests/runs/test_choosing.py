"""Which checkpoint of a run is the best one, when it stops, and that the best one is what is tested and told."""

import csv
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from doubles.run_files import SMALL, json_of, metrics, only_store, predictions, summary
from support import Command

from textrnn.evaluation.metrics import SplitPredictions
from textrnn.evaluation.predictions import Predictions

pytestmark = pytest.mark.usefixtures("undrawn")

LEARNING = (*SMALL, "optimizer.lr=0.05", "optimizer.schedule=constant", "run_dir=run")


def tell(monkeypatch: pytest.MonkeyPatch, metric: str, values: list[float]) -> None:
    """Give the metric of each validation these values, one after another, whatever the weights are."""
    remaining = iter(values)
    measure = Predictions.on_validation_epoch_end

    def told(callback: Predictions, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = {"loss": 1.0, "accuracy": 0.5, metric.removeprefix("val/"): next(remaining)}
        with monkeypatch.context() as patch:
            patch.setattr(SplitPredictions, "metrics", lambda _: metrics)
            measure(callback, trainer, module)

    monkeypatch.setattr(Predictions, "on_validation_epoch_end", told)


@pytest.mark.parametrize(
    ("metric", "values"), [("val/loss", [0.7, 0.5, 0.5, 0.6, 0.4]), ("val/accuracy", [0.6, 0.8, 0.8, 0.7, 0.9])]
)
def test_the_first_of_the_best_validations_is_kept_and_tested(
    here: Command,
    workplace: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    values: list[float],
) -> None:
    tell(monkeypatch, metric, values)
    rule = (f"early_stopping.monitor={metric}", "early_stopping.patience=2", "trainer.max_epochs=9")
    done = here("train.py", *LEARNING, *rule)
    assert done.returncode == 0, done.stderr
    told = [float(row[metric]) for row in metrics(workplace / "run") if row[metric]]
    assert told == pytest.approx(values[:4]), "an equal value is no better one"
    best = torch.load(workplace / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    ended = summary(workplace / "run")
    assert (best["global_step"], ended["best_step"], ended["best_epoch"]) == (18, 18, 1)
    assert ended[metric] == pytest.approx(values[1])
    of_an_epoch = int(only_store(environment).split("train").lengths.clip(max=60).sum())
    assert ended["tokens"] == 4 * of_an_epoch, "training's, whichever weights are the best, and not those of the test"
    for name, equal in (("best", True), ("last", False)):
        assert here("evaluate.py", f"run/checkpoints/{name}.ckpt", "--output", name).returncode == 0
        loss = json_of(workplace / name / "metrics.json")["test/loss"]
        assert (loss == pytest.approx(ended["test/loss"], abs=1e-5)) == equal
    both = [f"run/checkpoints/{name}.ckpt" for name in ("best", "last")]
    done = here("evaluate.py", *both)
    assert done.returncode == 0, done.stderr
    assert "the ensemble of 2 runs on test (60 reviews)" in done.stdout
    folder = workplace / "evaluation-test-ensemble"
    with (folder / "runs.csv").open() as file:
        losses = {row["run"]: float(row["test/loss"]) for row in csv.DictReader(file)}
    assert losses == {
        path: pytest.approx(json_of(workplace / name / "metrics.json")["test/loss"], rel=1e-4)
        for path, name in zip(both, ("best", "last"), strict=True)
    }
    tables = []
    for place in (folder, workplace / "best", workplace / "last"):
        with (place / "predictions.csv").open() as file:
            tables.append([float(row["probability"]) for row in csv.DictReader(file)])
    assert tables[0] == pytest.approx([(one + other) / 2 for one, other in zip(*tables[1:], strict=True)], abs=1e-5)


def test_without_checkpoints_the_last_weights_are_told_and_tested(
    here: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "val/accuracy", [0.9, 0.7])
    assert here("train.py", *LEARNING, "trainer.enable_checkpointing=false", "trainer.max_epochs=2").returncode == 0
    ended = summary(workplace / "run")
    assert (ended["best_step"], ended["best_epoch"]) == (None, None)
    assert ended["val/accuracy"] == pytest.approx(0.7)


# Lightning tells of the callbacks that kept checkpoints and are gone, as was asked for.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_checkpoints_of_before_are_not_tested_once_none_are_kept(here: Command, workplace: Path) -> None:
    assert here("train.py", *LEARNING, "trainer.max_epochs=1").returncode == 0
    before = summary(workplace / "run")["test/loss"]
    assert here("train.py", "resume=run", "trainer.max_epochs=2", "trainer.enable_checkpointing=false").returncode == 0
    ended = summary(workplace / "run")
    assert ended["best_step"] is None
    assert ended["test/loss"] != before


def test_what_gains_less_than_min_delta_is_no_gain(
    here: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "val/loss", [0.70, 0.69, 0.68, 0.67, 0.66])
    rule = ("early_stopping.monitor=val/loss", "early_stopping.patience=2", "early_stopping.min_delta=0.05")
    done = here("train.py", *LEARNING, *rule, "trainer.max_epochs=5")
    assert done.returncode == 0, done.stderr
    assert sum(bool(row["val/loss"]) for row in metrics(workplace / "run")) == 3


def test_what_is_no_number_is_never_the_best(here: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, "val/accuracy", [math.nan, 0.6, math.nan])
    done = here("train.py", *LEARNING, "early_stopping.patience=null", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    best = torch.load(workplace / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    ended = summary(workplace / "run")
    assert (best["global_step"], ended["best_step"], ended["val/accuracy"]) == (18, 18, pytest.approx(0.6))


def test_without_a_test_the_predictions_are_those_of_the_best_checkpoint(
    here: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "val/accuracy", [0.6, 0.8, 0.8])
    done = here("train.py", *LEARNING, "test=false", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    told = predictions(workplace / "run", "validation")
    again = here("evaluate.py", "run", "--split", "validation", "--output", "again/evaluation-validation")
    assert again.returncode == 0, again.stderr
    expected = [float(row["probability"]) for row in predictions(workplace / "again", "validation")]
    assert [float(row["probability"]) for row in told] == pytest.approx(expected, abs=1e-4)
