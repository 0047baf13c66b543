"""W&B's charts of a split's predictions."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from textrnn.evaluation.metrics import SplitPredictions
from textrnn.evaluation.report import mistake_table
from textrnn.evaluation.wandb_charts import evaluation_charts


@pytest.mark.parametrize("classes", [4, 40])
def test_charts_of_more_classes_have_their_names(classes: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    predictions = SplitPredictions(
        logits=torch.randn(200, classes, generator=generator),
        labels=torch.arange(200) % classes,
        lengths=torch.randint(1, 900, (200,), generator=generator),
        indices=torch.arange(200),
        classes=tuple(f"class {number}" for number in range(classes)),
        temperature=2.0,
    )
    picture = tmp_path / "evaluation.png"
    for name in ("evaluation", "calibration"):
        Image.new("RGB", (4, 4)).save(picture.with_stem(name))
    mistakes = mistake_table(predictions, 5, str)
    charts = evaluation_charts(predictions, prefix="test", picture=picture, mistakes=mistakes)
    names = ("confusion_matrix", "accuracy_by_length", "evaluation", "calibration", "roc", "accuracy_by_class")
    assert list(charts) == [f"test/{name}" for name in (*names, "mistakes")]
    roc, matrix = (charts[f"test/{name}"].table.data for name in ("roc", "confusion_matrix"))
    assert {row[0] for row in roc} == (set(predictions.classes) if classes == 4 else {"mean"})
    assert len(matrix) == min(classes, 30) ** 2
    assert {row[0] for row in matrix} <= set(predictions.classes)
    assert len(charts["test/accuracy_by_class"].table.data) == classes
    both = predictions.calibration_error(), predictions.calibrated().calibration_error()
    assert charts["test/calibration"]._caption == (
        f"expected calibration error {both[0]:.4f}, with temperature 2 {both[1]:.4f}"
    )
    assert charts["test/mistakes"].columns == list(mistakes.columns)
