import io
import logging
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.tiny_training import TinyModel, identity, loader, trainer
from pytorch_lightning.callbacks import Callback
from support import TESTS

from textrnn.tracking import progress
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.throughput import Throughput

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),
]

TRAIN = """
import sys
import warnings
from pathlib import Path
from doubles.tiny_training import TinyModel, identity, loader, trainer
from pytorch_lightning.callbacks import LambdaCallback
from textrnn.base.console import LOGGER, log_to_console, quiet_lightning
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.progress import run_progress
from textrnn.tracking.throughput import Throughput
run_dir = Path(sys.argv[1])
logger = RunLogger(run_dir, identity())
warnings.simplefilter("ignore")
quiet_lightning()
log_to_console()
said = LambdaCallback(on_train_epoch_start=lambda *_: LOGGER.info("said within"))
callbacks = [Throughput(2), said, run_progress(logger, lambda: 12)]
fit = trainer(run_dir, logger=logger, callbacks=callbacks, enable_progress_bar=True, num_sanity_val_steps=1)
logger.attach(fit)
model = TinyModel()
fit.fit(model, loader(6, wait=0.15), loader(1))
fit.test(model, dataloaders=loader(2, wait=0.15), verbose=False)
print("the end")
"""


def _lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, total_steps: float = 8, **arguments: object
) -> list[str]:
    logger = RunLogger(tmp_path, identity())
    callbacks: list[Callback] = [Throughput(2), progress.run_progress(logger, lambda: total_steps)]
    fit = trainer(tmp_path, logger=logger, callbacks=callbacks, **{"enable_progress_bar": True, **arguments})
    logger.attach(fit)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        fit.fit(TinyModel(), loader(4), loader(1))
    logger.close(over=True)
    return [record.getMessage() for record in caplog.records if record.name == "textrnn"]


def test_a_line_an_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = _lines(tmp_path, caplog)
    pattern = r"epoch {0}/2  step {1}/8  loss 0\.\d{{4}}  val acc 0\.7500  [\d.]+[kM]? tok/s  \d s"
    assert len(lines) == 2
    assert re.fullmatch(pattern.format(1, 4), lines[0])
    assert re.fullmatch(pattern.format(2, 8), lines[1])


def test_lines_within_a_long_epoch_and_without_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    lines = _lines(tmp_path, caplog, total_steps=math.inf, max_epochs=-1, max_time="00:00:00:01", limit_train_batches=2)
    assert [line.split("  ")[:2] for line in lines[:3]] == [
        ["epoch 1", "step 1"],
        ["epoch 1", "step 2"],
        ["epoch 1", "step 2"],
    ]


def test_lines_of_epochs_that_differ_tell_no_sum_of_steps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = _lines(tmp_path, caplog, total_steps=math.inf)
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1/2", "step 4"], ["epoch 2/2", "step 8"]]


def test_no_bar_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress.run_progress(RunLogger(tmp_path, identity()), lambda: 8), progress.LineProgress)


@pytest.mark.slow
def test_a_bar_where_there_is_a_terminal(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "TERM": "xterm",
        "COLUMNS": "80",
    }
    command = [sys.executable, "-c", TRAIN, str(tmp_path)]
    primary, secondary = pty.openpty()
    with subprocess.Popen(command, env=environment, stdin=secondary, stdout=secondary, stderr=secondary) as process:
        os.close(secondary)
        shown = b""
        try:
            while chunk := os.read(primary, 65536):
                shown += chunk
        except OSError:  # Linux's way to say that the terminal's other side is closed
            pass
    os.close(primary)
    assert process.returncode == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    drawn = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, drawn)) <= 80
    metrics = r"loss 0\.\d{4}  val acc 0\.7500  [\d.]+[kM]? tok/s  \d s"
    assert [line for line in drawn if re.fullmatch(rf"epoch 2/2 ━+╸?━* [345]/6 {metrics}", line)]
    assert [line for line in drawn if re.fullmatch(rf"test +━+╸?━* [012]/2 {metrics}", line)]
    for epoch in (1, 2):
        assert [line for line in drawn if re.fullmatch(rf"epoch {epoch}/2  step {6 * epoch}/12  {metrics}", line)]
    assert drawn.count("said within") == 2
    assert [line for line in drawn if re.fullmatch(r"validation ━+ 0/1 \d s", line)]
    assert drawn[-2:] == ["the end", ""]
