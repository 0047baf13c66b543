import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from textrnn.base.errors import InputError
from textrnn.evaluation.metrics import SplitPredictions, predictions_of
from textrnn.evaluation.plots import plot_calibration, plot_evaluation
from textrnn.tracking.metrics_csv import MetricsFile, read_metrics
from textrnn.tracking.plots import CELLS, class_label, draw_quantity, looks, new_figure, plot_curves


def _size(png: Path) -> tuple[int, int]:
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _metrics(path: Path, epochs: int, *, test: bool) -> Path:
    file = MetricsFile(path)
    for epoch in range(epochs):
        for step in range(epoch * 100 + 10, epoch * 100 + 101, 10):
            file.write(step, epoch, {"train/loss": 20 / (step + 25), "train/accuracy": 1 - 10 / (step + 20)})
        file.write(step, epoch, {"val/loss": 0.3 + abs(epoch - 2) / 20, "val/accuracy": 0.9 - abs(epoch - 2) / 50})
    if test:
        file.write(epochs * 100, epochs, {"test/loss": 0.33, "test/accuracy": 0.8941})
    file.close()
    return path


def test_curves_of_a_whole_run_of_a_short_one_and_of_none(tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    sizes = set()
    pictures = set()
    for name, epochs, test, best in (("whole", 5, True, 300), ("short", 1, False, None), ("empty", 0, False, None)):
        read = _metrics(tmp_path / f"{name}.csv", epochs, test=test)
        plot_curves(read, out, name="a $ run", monitor="val/loss", best_step=best)
        sizes.add(_size(out))
        pictures.add(out.read_bytes())
    assert sizes == {(2400, 1152)}
    assert len(pictures) == 3
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".csv", ".csv", ".png"]


def test_the_best_epoch_is_marked(tmp_path: Path) -> None:
    rows = read_metrics(_metrics(tmp_path / "metrics.csv", 3, test=True))
    axes = new_figure(10, 4).subplots()
    draw_quantity(axes, rows, "loss", 200, monitor="val/loss", tested=True)
    drawn = {str(line.get_label()): line for line in axes.lines}
    assert list(drawn) == ["train", "validation", "best by val/loss, epoch 2: 0.3500", "test: 0.3300"]
    mark = drawn["best by val/loss, epoch 2: 0.3500"]
    assert mark.get_marker() == "*"
    assert [np.asarray(part).tolist() for part in mark.get_data()] == [[200], [0.35]]


def test_a_test_of_other_weights_is_not_drawn(tmp_path: Path) -> None:
    rows = read_metrics(_metrics(tmp_path / "metrics.csv", 3, test=True))
    axes = new_figure(10, 4).subplots()
    draw_quantity(axes, rows, "accuracy", None, monitor="val/loss", tested=False)
    assert [line.get_label() for line in axes.lines] == ["train", "validation"]


def test_a_cell_has_one_color() -> None:
    assert looks(["model=gru, optimizer.lr=0.1", "model=rnn"]) == [CELLS["gru"], CELLS["rnn"]]
    of_one_cell = looks(["model=gru, optimizer.lr=0.1", "model=gru"])
    assert len(set(of_one_cell)) == 2


def test_a_picture_that_can_not_be_drawn_keeps_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    plot_curves(_metrics(tmp_path / "metrics.csv", 1, test=False), out, name="run", monitor="val/loss")
    old = out.read_bytes()
    (tmp_path / "metrics.csv").write_text("not metrics")
    with pytest.raises(InputError):
        plot_curves(tmp_path / "metrics.csv", out, name="run", monitor="val/loss")
    assert out.read_bytes() == old


@pytest.mark.parametrize("kind", ["many", "one label", "one review", "diverged"])
def test_an_evaluation(kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    reviews = 1 if kind == "one review" else 200
    labels = torch.randint(0, 1 if kind == "one label" else 2, (reviews,), generator=generator)
    logits = torch.full((reviews,), torch.nan) if kind == "diverged" else torch.randn(reviews, generator=generator)
    lengths = torch.randint(1, 900, (reviews,), generator=generator)
    predictions = SplitPredictions(
        logits=logits, labels=labels, lengths=lengths, indices=torch.arange(reviews), classes=("a $ sign", "$^$")
    )
    plot_evaluation(predictions, tmp_path / "evaluation.png", title="a run, x $a^$, on test", max_length=400)
    assert _size(tmp_path / "evaluation.png") == (2520, 2160)


@pytest.mark.parametrize("kind", ["two", "more", "several", "diverged"])
def test_calibration_before_and_after(kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (200,) if kind in ("two", "diverged") else (200, 3)
    predictions = predictions_of(
        logits=torch.full(shape, torch.nan) if kind == "diverged" else torch.randn(shape, generator=generator),
        labels=torch.randint(0, 2, shape if kind == "several" else (200,), generator=generator),
        lengths=torch.ones(200, dtype=torch.int64),
        indices=torch.arange(200),
        classes=("a", "b", "c")[: 2 if len(shape) == 1 else 3],
    )
    plot_calibration(predictions, tmp_path / "calibration.png", title="a run, x $a^$, on test")
    assert _size(tmp_path / "calibration.png") == (1320, 1200)
    predictions.temperature = 2.0
    plot_calibration(predictions, tmp_path / "calibration.png", title="a run on test")
    assert _size(tmp_path / "calibration.png") == (2520, 1200)


@pytest.mark.parametrize(("classes", "diverged"), [(4, True), (40, False)])
def test_an_evaluation_of_more_classes(classes: int, diverged: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, classes, generator=generator)
    logits[0, 0] = torch.nan if diverged else 0
    predictions = SplitPredictions(
        logits=logits,
        labels=torch.randint(0, classes - 1, (200,), generator=generator),
        lengths=torch.randint(1, 900, (200,), generator=generator),
        indices=torch.arange(200),
        classes=tuple(f"a $ class with a long $^$ name {number}" for number in range(classes)),
    )
    plot_evaluation(predictions, tmp_path / "evaluation.png", title="a run on test", max_length=400)
    assert _size(tmp_path / "evaluation.png") == ((2520, 2160) if classes == 4 else (4080, 2880))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("many", [False, True])
def test_names_that_the_font_lacks_are_drawn_without_a_warning(classes: int, many: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (200, classes) if classes > 2 or many else (200,)
    labels = torch.randint(0, 2, shape, generator=generator) if many else torch.arange(200) % classes
    predictions = predictions_of(
        logits=torch.randn(shape, generator=generator),
        labels=labels,
        lengths=torch.randint(1, 900, (200,), generator=generator),
        indices=torch.arange(200),
        classes=("好评", "joy \N{GRINNING FACE}", "é ü", "plain")[:classes],
    )
    plot_evaluation(predictions, tmp_path / "evaluation.png", title="运行 on test", max_length=400)
    assert class_label("好", 3, 18) == "3: \\u597d"
    assert class_label("é ü", 3, 18) == "é ü"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tracking.plots", "evaluation.plots"])
def test_no_display_is_looked_for_and_no_folder_of_settings_made(module: str, tmp_path: Path) -> None:
    code = f"import sys, textrnn.{module}; sys.exit('matplotlib.pyplot' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])
