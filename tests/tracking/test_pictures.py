import struct
import subprocess
import sys
from pathlib import Path

import pytest

from textrnn.errors import InputError
from textrnn.tracking.metrics import MetricsFile
from textrnn.tracking.plots import plot_confusion_matrix, plot_curves


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
        plot_curves(_metrics(tmp_path / f"{name}.csv", epochs, test=test), out, best_step=best)
        sizes.add(_size(out))
        pictures.add(out.read_bytes())
    assert sizes == {(1200, 480)}
    assert len(pictures) == 3
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".csv", ".csv", ".png"]


def test_the_best_epoch_is_marked(tmp_path: Path) -> None:
    metrics = _metrics(tmp_path / "metrics.csv", 3, test=False)
    plot_curves(metrics, tmp_path / "without.png")
    plot_curves(metrics, tmp_path / "with.png", best_step=200)
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_a_picture_that_can_not_be_drawn_keeps_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    plot_curves(_metrics(tmp_path / "metrics.csv", 1, test=False), out)
    old = out.read_bytes()
    (tmp_path / "metrics.csv").write_text("not metrics")
    with pytest.raises(InputError):
        plot_curves(tmp_path / "metrics.csv", out)
    assert out.read_bytes() == old


@pytest.mark.parametrize("matrix", [[[11000, 1500], [900, 11600]], [[0, 0], [0, 0]], [[3, 0], [0, 0]]])
def test_confusion_matrix(matrix: list[list[int]], tmp_path: Path) -> None:
    plot_confusion_matrix(matrix, tmp_path / "matrix.png", labels=("negative", "positive"))
    assert min(_size(tmp_path / "matrix.png")) > 300


def test_no_display_is_looked_for() -> None:
    code = "import sys, textrnn.tracking.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
