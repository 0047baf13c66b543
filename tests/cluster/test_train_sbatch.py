"""train.sbatch on a real SLURM."""

import csv
import json
import sys
from pathlib import Path

import pytest
from doubles.slurm import Slurm, until
from support import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TWO_BY_TWO = ("--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1", "--mem-per-cpu=1G")
SMALL = (
    *("data=synthetic", "data.synthetic.train_reviews=300", "data.synthetic.test_reviews=60", "data.max_length=60"),
    *("model.hidden_size=8", "model.embedding.size=8", "data.batch_size=32", "tracking=none"),
)


def test_four_processes_on_two_nodes_go_on_after_a_signal(
    slurm: Slurm, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    long = ("trainer.max_epochs=40", "early_stopping.patience=null")
    command = (*TWO_BY_TWO, str(ROOT / "train.sbatch"), *SMALL, *long)
    job = slurm.submit(*command, place=workplace, environment=environment)
    until(lambda: list(workplace.glob("runs/*/checkpoints/last.ckpt")), lambda: slurm.output(job))
    slurm.run("scancel", "--signal=USR1", job)  # to the steps' processes, as --signal=USR1@120 does
    slurm.wait(job, "COMPLETED", restarts=1, deadline=240)
    (run,) = (workplace / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)), "it went on where it was"
    assert steps[-1] == 40 * 9
    assert {path.name for path in run.glob("train*.log")} == {"train.log", *(f"train-rank{n}.log" for n in (1, 2, 3))}
    assert slurm.output(job).count("pre-empted") >= 1
