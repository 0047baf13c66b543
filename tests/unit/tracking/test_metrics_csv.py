import math
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.tracking.metrics_csv import COLUMNS, MetricsFile, read_metrics, repair

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from textrnn.tracking.metrics_csv import MetricsFile
file = MetricsFile(Path(sys.argv[1]))
print("writing", flush=True)
for step in range(1, 10_000_000):
    file.write(step, step // 100, {"train/loss": 1 / step, "lr": 0.001})
    file.write(step, step // 100, {"val/loss": 2 / step})
"""


def _written(path: Path, *rows: tuple[int, int, dict[str, float]]) -> None:
    file = MetricsFile(path)
    for step, epoch, values in rows:
        file.write(step, epoch, values)
    file.close()


def test_values_of_a_step_share_a_row_and_every_write_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    file.write(10, 0, {"train/loss": 0.5})
    assert read_metrics(path) == [{"step": 10, "epoch": 0, "train/loss": 0.5}]
    file.write(10, 1, {"val/loss": 0.25, "val/accuracy": 1.0})
    file.write(20, 1, {"train/loss": 1 / 3})
    assert read_metrics(path) == [
        {"step": 10, "epoch": 0, "train/loss": 0.5, "val/loss": 0.25, "val/accuracy": 1.0},
        {"step": 20, "epoch": 1, "train/loss": 1 / 3},
    ]
    file.write(20, 1, {"train/loss": 1.0})  # shorter than before
    assert read_metrics(path)[-1] == {"step": 20, "epoch": 1, "train/loss": 1.0}
    file.close()
    file.close()


def test_a_file_that_is_there_is_continued_in_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    _written(path, (1, 0, {"train/loss": 1 / 3}), (2, 0, {"train/loss": 2e-7}))
    _written(path, (2, 1, {"test/loss": 0.5}), (3, 1, {"train/loss": 3}))
    assert read_metrics(path) == [
        {"step": 1, "epoch": 0, "train/loss": 1 / 3},
        {"step": 2, "epoch": 0, "train/loss": 2e-7, "test/loss": 0.5},
        {"step": 3, "epoch": 1, "train/loss": 3.0},
    ]


def test_values_that_are_not_finite_are_written_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    _written(path, (1, 0, {"train/loss": math.nan, "val/loss": math.inf}))
    row = read_metrics(path)[0]
    assert math.isnan(row["train/loss"])
    assert row["val/loss"] == math.inf
    assert "val/accuracy" not in row


def test_unknown_metrics_and_steps_that_go_back_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.write(5, 0, {"train/loss": 0.5})
    with pytest.raises(ValueError, match="unknown metrics train/perplexity"):
        file.write(6, 0, {"train/perplexity": 1.0})
    with pytest.raises(ValueError, match="step 4 came after those of step 5"):
        file.write(4, 0, {"train/loss": 0.5})
    file.close()
    assert len(read_metrics(path)) == 1


def test_repair_drops_later_rows_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    repair(path, 10)
    assert not path.exists()
    _written(path, *((step, 0, {"train/loss": step / 10}) for step in (10, 20, 30)))
    whole = path.read_text()
    repair(path, 30)
    assert path.read_text() == whole
    for torn in (whole[:-5], whole + "40,1,0.1", whole + f"40,1,0.1{',' * (len(COLUMNS) - 3)}\n"):
        path.write_text(torn)
        repair(path, 20)
        assert [row["step"] for row in read_metrics(path)] == [10, 20]
    over_a_longer_row = f"40,1,{',' * (len(COLUMNS) - 3)}\n"
    for left in (".123456,,,\n", "\n"):  # of the longer one
        path.write_text(whole + over_a_longer_row + left)
        repair(path, 40)
        assert [row["step"] for row in read_metrics(path)] == [10, 20, 30, 40]
    path.write_text(whole.replace("20,0", "twenty") + over_a_longer_row)
    with pytest.raises(InputError, match="twenty"):
        repair(path, 40)
    path.write_text("step,epo")  # killed while the header was written
    repair(path, 20)
    assert read_metrics(path) == []


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for text in ("step,loss\n1,2\n", ",".join(COLUMNS) + "\n1,0,not a number\n", ",".join(COLUMNS) + "\n1,0"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"metrics\.csv"):
            read_metrics(path)


def test_a_file_of_a_version_with_fewer_metrics_is_read_and_continued(tmp_path: Path) -> None:
    path, columns = tmp_path / "metrics.csv", [name for name in COLUMNS if "perplexity" not in name]
    cells = ["10", "0", *("0.25" if name == "test/loss" else "" for name in columns[2:])]
    path.write_text(f"{','.join(columns)}\n{','.join(cells)}\n")
    assert read_metrics(path) == [{"step": 10, "epoch": 0, "test/loss": 0.25}]
    repair(path, 10)  # as before a resumed run goes on
    _written(path, (20, 1, {"val/perplexity": 40.0}))
    assert read_metrics(path) == [
        {"step": 10, "epoch": 0, "test/loss": 0.25},
        {"step": 20, "epoch": 1, "val/perplexity": 40.0},
    ]


def test_kill_in_mid_writing_loses_at_most_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for attempt in range(5):
        path.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            size = path.stat().st_size
            while path.stat().st_size < size + 5000 + random.Random(attempt).randrange(20_000):
                pass
            writer.send_signal(signal.SIGKILL)
        repair(path, 10_000_000)
        rows = read_metrics(path)
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        assert all("val/loss" in row for row in rows[:-1])
        repair(path, 50)
        _written(path, (51, 0, {"train/loss": 0.0}))
        assert [row["step"] for row in read_metrics(path)] == list(range(1, 52))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*metrics\.csv"):
        MetricsFile(tmp_path / "metrics.csv")
