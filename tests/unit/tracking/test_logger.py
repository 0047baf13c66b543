import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doubles.tiny_training import TinyModel, identity, loader, trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from support import TESTS

from textrnn.tracking.logger import RunLogger
from textrnn.tracking.metrics_csv import Row, read_metrics, repair
from textrnn.tracking.throughput import Throughput

# Lightning, on few batches and without worker processes, which is what these tests want.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    # This one is resumed between two batches that are all the same.
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),
]


def _trained(
    run_dir: Path, *, resume: Path | None = None, checkpoint: ModelCheckpoint | None = None, **arguments: Any
) -> list[Row]:
    run_dir.mkdir(exist_ok=True)
    logger = RunLogger(run_dir, identity())
    fit = trainer(run_dir, logger=logger, callbacks=[checkpoint] if checkpoint else None, **arguments)
    logger.attach(fit)
    model = TinyModel()
    fit.fit(model, loader(5), loader(1), ckpt_path=resume)
    fit.test(model, loader(1), verbose=False)
    logger.close(over=True)
    return read_metrics(run_dir / "metrics.csv")


def _places(rows: list[Row]) -> list[tuple[int, int, set[str]]]:
    return [(int(row["step"]), int(row["epoch"]), set(row) - {"step", "epoch"}) for row in rows]


def test_steps_are_optimizer_steps_and_what_belongs_to_one_shares_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = _trained(tmp_path / "run")
    epoch_end = {"val/loss", "val/accuracy", "train/accuracy"}
    assert _places(rows) == [
        (2, 0, {"train/loss"}),
        (4, 0, {"train/loss"}),
        (5, 0, epoch_end),
        (6, 1, {"train/loss"}),
        (8, 1, {"train/loss"}),
        (10, 1, {"train/loss", "test/loss", *epoch_end}),
    ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["metrics.csv", "run"], "no lightning_logs"


def test_epoch_of_a_row_that_only_the_end_of_the_epoch_writes(tmp_path: Path) -> None:
    rows = _trained(tmp_path / "run", check_val_every_n_epoch=2)
    assert (5, 0, {"train/accuracy"}) in _places(rows)


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    rows = _trained(tmp_path / "run", accumulate_grad_batches=2, log_every_n_steps=1)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_continues_the_rows(tmp_path: Path) -> None:
    def every_four_steps() -> ModelCheckpoint:
        return ModelCheckpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=4, save_top_k=-1)

    whole = _trained(tmp_path / "whole", checkpoint=every_four_steps())
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_bytes((tmp_path / "whole" / "metrics.csv").read_bytes())
    repair(run / "metrics.csv", 8)
    (resume,) = (tmp_path / "checkpoints").glob("*step=8.ckpt")
    continued = _trained(run, resume=resume, checkpoint=every_four_steps())
    assert _places(continued) == _places(whole)
    assert [row.get("train/loss") for row in continued] == [row.get("train/loss") for row in whole]


def test_an_unknown_metric_stops_the_run(tmp_path: Path) -> None:
    class Misspelt(TinyModel):
        def on_train_epoch_end(self) -> None:
            self.log("train/acuracy", 0.5)

    logger = RunLogger(tmp_path, identity())
    fit = trainer(tmp_path, logger=logger)
    with pytest.raises(RuntimeError, match="attach"):
        logger.log_metrics({"train/loss": 1.0})
    logger.attach(fit)
    with pytest.raises(ValueError, match="unknown metrics train/acuracy"):
        fit.fit(Misspelt(), loader(2), loader(1))
    logger.close(over=True)


def test_throughput_counts_real_tokens_and_whole_steps(tmp_path: Path) -> None:
    throughput = Throughput(log_every_n_steps=2)
    checkpoint = ModelCheckpoint(dirpath=tmp_path / "checkpoints", save_on_train_epoch_end=True)
    logger = RunLogger(tmp_path, identity())
    fit = trainer(tmp_path, logger=logger, callbacks=[throughput, checkpoint])
    logger.attach(fit)
    fit.fit(TinyModel(validation_seconds=0.5), loader(6, wait=0.02), loader(1))
    logger.close(over=True)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows if "train/tokens_per_second" in row] == [2, 4, 6, 8, 10, 12]
    assert all("train/loss" in row for row in rows), "in the rows of the training loss"
    assert all(row["train/padding"] == pytest.approx(1 / 3) for row in rows), (
        "20 tokens in 30 places, without a filler's"
    )
    assert throughput.tokens == 12 * 20
    # Waiting for 12 batches counts, two validations of half a second don't.
    assert 12 * 0.02 <= throughput.seconds < 0.9
    assert all(0 < row["train/tokens_per_second"] <= 20 / 0.02 for row in rows)


def test_totals_of_a_resumed_run_go_on(tmp_path: Path) -> None:
    def fitted(epochs: int, resume: Path | None) -> Throughput:
        throughput = Throughput(log_every_n_steps=4)
        checkpoint = ModelCheckpoint(dirpath=tmp_path / "checkpoints", save_last=True)
        fit = trainer(tmp_path, logger=False, callbacks=[throughput, checkpoint], max_epochs=epochs)
        fit.fit(TinyModel(), loader(5), loader(1), ckpt_path=resume)
        return throughput

    first = fitted(1, None)
    second = fitted(3, tmp_path / "checkpoints" / "last.ckpt")
    assert (first.tokens, second.tokens) == (5 * 20, 15 * 20)
    assert second.seconds > first.seconds > 0


TWO_PROCESSES = """
import sys
from pathlib import Path
from pytorch_lightning.callbacks import LambdaCallback
from doubles.tiny_training import TinyModel, identity, loader, trainer
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.throughput import Throughput
run_dir = Path(sys.argv[1])
logger, throughput = RunLogger(run_dir, identity()), Throughput(log_every_n_steps=2)
tell = LambdaCallback(
    on_train_end=lambda trainer, _: (run_dir / f"tokens-{trainer.global_rank}").write_text(str(throughput.tokens))
)
fit = trainer(run_dir, logger=logger, callbacks=[throughput, tell], devices=2, strategy="ddp_fork")
logger.attach(fit)
fit.fit(TinyModel(), loader(4), loader(1))
"""


@pytest.mark.slow
def test_two_processes_write_one_file_and_count_all_tokens(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [(tmp_path / f"tokens-{rank}").read_text() for rank in (0, 1)] == [str(2 * 8 * 20)] * 2
