"""sweeps/slurm_agents.sbatch on a real SLURM: agents of W&B, one a GPU, and what becomes of them when time is up."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from doubles.quick_agent import told_at_once
from doubles.slurm import Slurm
from doubles.sweep_runs import sweep_file
from doubles.tracked_runs import log_in
from doubles.wandb_server import ServerSweep, WandbServer
from support import ROOT, until

pytestmark = pytest.mark.slow

SCRIPT = str(ROOT / "sweeps" / "slurm_agents.sbatch")
LITTLE = ("--cpus-per-task=1", "--mem-per-cpu=500M")
NOTES_WHERE_IT_RUNS = """
import json, os, pathlib, time
names = ("WANDB_RUN_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")
trials = pathlib.Path("trials")
with (trials / os.environ["WANDB_RUN_ID"]).open("a") as file:
    print(json.dumps([os.environ[name] for name in names]), file=file)
while len(list(trials.iterdir())) < 4:  # so that no agent is through before all have begun
    time.sleep(0.05)
"""
"""The program of a sweep without training."""


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[WandbServer]:
    """An account; agents ask more often, and `python` is this one."""
    with WandbServer() as running:
        log_in(environment, running)
        environment["PYTHONPATH"] = told_at_once(tmp_path)
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        yield running


def register(server: WandbServer, path: Path) -> ServerSweep:
    config = yaml.safe_load(path.read_text())
    answer = server.answer("UpsertSweep", {"projectName": "films", "config": yaml.safe_dump(config)})
    return server.sweeps[answer["upsertSweep"]["sweep"]["id"]]


def test_an_array_of_agents_works_through_a_sweep(
    slurm: Slurm, server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "trial.py").write_text(NOTES_WHERE_IT_RUNS)
    (workplace / "trials").mkdir()
    parameters = {"seed": {"values": list(range(12))}}
    command = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    sweep = register(server, sweep_file(workplace, program="trial.py", parameters=parameters, command=command))
    arguments = ("--array=0-5", *LITTLE, SCRIPT, f"tester/films/{sweep.id}")
    job = slurm.submit(*arguments, place=workplace, environment=environment)
    slurm.wait(job, "COMPLETED")

    assert sweep.state == "FINISHED"
    assert sorted(run.parameters["seed"] for run in sweep.runs) == list(range(12))
    assert len(sweep.handed_out) == 12
    started = [json.loads(line) for file in (workplace / "trials").iterdir() for line in file.read_text().splitlines()]
    assert sorted(run for run, *_ in started) == sorted(run.id for run in sweep.runs), "each trial once"
    places = {(task, node, gpu) for _, task, node, gpu in started}
    assert {(node, gpu) for _, node, gpu in places} == {("n1", "0"), ("n1", "1"), ("n2", "0"), ("n2", "1")}
    assert len(places) == len({task for task, *_ in places}), "an agent stays on its GPU"


def test_a_trial_goes_on_after_its_agents_time_and_after_an_urgent_job(
    slurm: Slurm, server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "train.py").symlink_to(ROOT / "train.py")
    path = sweep_file(workplace, tracking="online")
    config = yaml.safe_load(path.read_text())
    config["command"][-1:] = ["trainer.max_epochs=60", "early_stopping.patience=null", "${args_no_hyphens}"]
    path.write_text(yaml.safe_dump(config))
    sweep = register(server, path)
    job = slurm.submit(*LITTLE, SCRIPT, f"tester/films/{sweep.id}", place=workplace, environment=environment)

    def has_trained_on(turns: int) -> bool:
        """Whether the trial has been handed out so often and writes checkpoints in this turn."""
        if len(sweep.handed_out) < turns:
            return False
        last = workplace / "runs" / sweep.id / sweep.runs[0].id / "checkpoints" / "last.ckpt"
        return last.is_file() and last.stat().st_mtime > before

    before = 0.0
    until(lambda: has_trained_on(1), lambda: slurm.output(job))
    slurm.run("scancel", "--batch", "--signal=USR1", f"{job}_0")  # what SLURM sends some time before the limit
    slurm.wait(job, "PENDING", "RUNNING", restarts=1)
    (trial,) = sweep.runs
    assert trial.state == "preempted"
    before = time.time()
    until(lambda: has_trained_on(2), lambda: slurm.output(job))
    everything = ("--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "true")
    urgent = slurm.submit(*everything, place=workplace, environment=environment)
    slurm.wait(urgent, "COMPLETED")
    slurm.wait(job, "COMPLETED", restarts=2)

    assert [run for _, run in sweep.handed_out] == [trial.id] * 3
    assert (trial.state, trial.exit_code) == ("finished", 0)
    assert list(server.runs) == [trial.id]
    assert trial.summary["status"] == "finished"
    assert [row["_step"] for row in trial.rows] == sorted({row["_step"] for row in trial.rows})
    assert slurm.output(job).count("pre-empted") == 2


def test_agents_that_are_cancelled_stay_so(
    slurm: Slurm, server: WandbServer, workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "trial.py").write_text("import pathlib, time; pathlib.Path('started').touch(); time.sleep(600)")
    command = ["${env}", "${interpreter}", "${program}"]
    sweep = register(server, sweep_file(workplace, program="trial.py", command=command))
    no_gpu = (*LITTLE, "--gpus-per-task=0", SCRIPT, f"tester/films/{sweep.id}")
    job = slurm.submit(*no_gpu, place=workplace, environment=environment)
    until((workplace / "started").exists, lambda: slurm.output(job))
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED")
    until(lambda: not slurm.run("squeue", "--noheader"), lambda: slurm.run("squeue"))
    assert slurm.describe(job)[0]["Restarts"] == "0"
    assert "requeue" not in slurm.output(job).lower()


def test_a_sweep_that_is_not_named(slurm: Slurm, workplace: Path, environment: dict[str, str]) -> None:
    job = slurm.submit(*LITTLE, SCRIPT, place=workplace, environment=environment)
    slurm.wait(job, "FAILED")
    assert slurm.describe(job)[0]["ExitCode"] == "2:0"
    assert "ENTITY/PROJECT/ID" in slurm.output(job)
