"""train.sbatch on a real SLURM."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from doubles.run_files import metrics
from doubles.slurm import Slurm
from support import ROOT, Command, until

pytestmark = pytest.mark.slow

TWO_BY_TWO = ("--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1", "--mem-per-cpu=1G")
SMALL = (
    *("data=synthetic", "data.synthetic.train_reviews=300", "data.synthetic.test_reviews=60", "data.max_length=60"),
    *("model.hidden_size=8", "model.embedding.size=8", "data.batch_size=32", "tracking=none"),
)


def processes(job: str) -> dict[int, int]:
    """The processes of a job's step by their ranks."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "train.py" not in (folder / "cmdline").read_text():
                continue
            variables = dict(text.partition("=")[::2] for text in (folder / "environ").read_text().split("\0"))
            if variables.get("SLURM_JOB_ID") == job and "SLURM_STEP_ID" in variables:
                found[int(variables["SLURM_PROCID"])] = int(folder.name)
    return found


def test_four_processes_on_two_nodes_go_on_after_a_signal_and_end_with_the_first_that_dies(
    slurm: Slurm, script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["WANDB_RUN_ID"] = "mine"
    # It must not end before the other jobs of this test have, however long they wait for a processor.
    long = ("trainer.max_epochs=10000", "early_stopping.patience=null", "checkpoint.every_n_train_steps=20")
    command = (*TWO_BY_TWO, str(ROOT / "train.sbatch"), *SMALL, *long)
    job = slurm.submit(*command, place=workplace, environment=environment)
    until(lambda: list(workplace.glob("runs/*/checkpoints/last.ckpt")), lambda: slurm.output(job))
    (run,) = (workplace / "runs").iterdir()

    # The directory is the job's: another one is refused, by one sentence of one rank, with exit code 2 of all.
    beside = (*TWO_BY_TWO, "--nodes=1", "--gpus-per-node=0", str(ROOT / "train.sbatch"), *SMALL, *long)
    other = slurm.submit(*beside, f"run_dir={run}", "resume=auto", place=workplace, environment=environment)
    slurm.wait(other, "FAILED")
    assert len([line for line in slurm.output(other).splitlines() if line.startswith("error: ")]) == 1
    assert "in use" in slurm.output(other)
    assert "ExitCode=2:0" in slurm.run("scontrol", "show", "job", other)

    slurm.run("scancel", "--signal=USR1", job)  # to the steps' processes, as --signal=USR1@120 does
    before = len(metrics(run))
    until(lambda: len(metrics(run)) > before + 5, lambda: slurm.output(job))
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", job)
    assert "resume: python" not in slurm.output(job), "nothing is to be typed"

    os.kill(processes(job)[2], signal.SIGKILL)
    slurm.wait(job, "FAILED", restarts=1, deadline=60)
    assert "task 2: Killed" in slurm.output(job)

    epochs = int(metrics(run)[-1]["step"]) // 9 + 2
    shorter = (*long, f"trainer.max_epochs={epochs}")
    done = script("train.py", *SMALL, *shorter, f"run_dir={run}", "resume=auto", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    steps = [int(row["step"]) for row in metrics(run)]
    assert steps == sorted(set(steps)), "it went on where it was"
    assert steps[-1] == epochs * 9
    assert json.loads((run / "run.json").read_text())["id"] == "mine"
    assert {path.name for path in run.glob("train*.log")} == {"train.log", *(f"train-rank{n}.log" for n in (1, 2, 3))}
