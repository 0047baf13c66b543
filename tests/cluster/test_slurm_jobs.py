"""`-m hydra/launcher=slurm` on a real SLURM."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.slurm import Slurm
from support import ROOT, Command, until

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
pytestmark = pytest.mark.slow

SMALL = (
    *("data=synthetic", "data.synthetic.train_reviews=300", "data.synthetic.test_reviews=60", "data.max_length=60"),
    *("model.hidden_size=8", "model.embedding.size=8", "data.batch_size=32", "trainer=cpu", "tracking=none"),
)
LITTLE = ("hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1")


def test_jobs_that_are_preempted_killed_or_well(
    slurm: Slurm, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    epochs = ("trainer.max_epochs=60", "early_stopping.patience=null")
    typed = ("-m", "hydra/launcher=slurm", *LITTLE, "model=gru,rnn,lstm", *SMALL, *epochs, "run_dir=jobs")
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *typed],
            cwd=workplace,
            env=environment | slurm.environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )

    def output() -> str:
        return (tmp_path / "said").read_text()

    last = [workplace / "jobs" / str(number) / "checkpoints" / "last.ckpt" for number in range(3)]
    until(lambda: last[0].exists() or process.poll() is not None, output)
    assert process.poll() is None, output()
    array = output().partition("queue: ")[2].partition(";")[0]
    until(last[1].exists, output)
    slurm.run("scancel", "--full", "--signal=KILL", f"{array}_1")
    until(last[2].exists, output)
    # What SLURM sends some time before the limit; to the last one, whose own number is that of the array.
    slurm.run("scancel", "--signal=USR2", f"{array}_2")
    assert process.wait(timeout=240) == 1, output()

    assert slurm.describe(f"{array}_2")[0]["Restarts"] == "1"
    states = {}
    for number in (0, 2):
        states[number] = json.loads((workplace / "jobs" / str(number) / "summary.json").read_text())["status"]
    assert states == {0: "finished", 2: "finished"}
    with (workplace / "jobs" / "2" / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)), "it went on where it was"
    log = workplace / "jobs" / "slurm" / f"{array}_1" / f"{array}_1_0_log.out"
    assert f"job {array}_1 failed with exit code 1; its log: {log}" in output()
    assert "2 of 3 runs done: jobs" in output()
    assert log.is_file()
    with (workplace / "jobs" / "comparison.csv").open() as file:
        settings = {row["setting"]: row["unfinished"] for row in csv.DictReader(file)}
    assert settings == {"model=gru": "0", "model=rnn": "1", "model=lstm": "0"}


def test_a_job_of_two_processes_on_two_nodes(slurm: Slurm, script: Command, workplace: Path) -> None:
    two = ("hydra.launcher.nodes=2", "hydra.launcher.gpus_per_node=1")
    jobs = ("trainer.max_epochs=1", "trainer.limit_train_batches=1.0,0.001", "run_dir=jobs")
    typed = ("-m", "hydra/launcher=slurm", *LITTLE, *two, *SMALL, *jobs)
    done = script("train.py", *typed, **slurm.environment, timeout=200)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "_1 failed with exit code 2; its log:" in done.stderr
    assert "1 of 2 runs done: jobs" in done.stdout
    assert (workplace / "jobs" / "0" / "train-rank1.log").is_file()
    assert not (workplace / "jobs" / "1").exists()


def test_jobs_that_are_still_queued_are_not_submitted_again(slurm: Slurm, script: Command, workplace: Path) -> None:
    array = slurm.run("sbatch", "--parsable", "--hold", "--array=0-1", "--wrap=true").strip()
    (workplace / "jobs" / "slurm" / f"{array}_0").mkdir(parents=True)
    typed = ("-m", "hydra/launcher=slurm", *SMALL, "model=gru,rnn", "run_dir=jobs", "resume=auto")
    done = script("train.py", *typed, **slurm.environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"run_dir=jobs: job(s) {array}_0, {array}_1 of an earlier call are still in SLURM's queue" in line
    slurm.run("scancel", array)


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("partition=nowhere", "(invalid partition specified: nowhere;"),
        ("mem_gb=900", "(Memory specification can not be satisfied;"),
    ],
)
def test_what_slurm_refuses_is_one_sentence(
    key: str, answer: str, slurm: Slurm, script: Command, workplace: Path
) -> None:
    start = time.monotonic()
    typed = ("-m", "hydra/launcher=slurm", f"hydra.launcher.{key}", *SMALL, "model=gru,rnn", "run_dir=jobs")
    done = script("train.py", *typed, **slurm.environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: hydra/launcher=slurm: SLURM refuses the jobs {answer}")
    assert ("type hydra.launcher.mem_gb=GB with less than 900" in line) == key.startswith("mem_gb")
    assert not (workplace / "jobs").exists()
    assert time.monotonic() - start < 30
