"""Several processes under torchrun: one run, one sentence for what is wrong, and no hang when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.run_files import SMALL, json_of, metrics, wait_for_step
from support import ROOT, Command

RANKS = (*SMALL, "trainer.devices=auto")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")


def torchrun(
    place: Path, environment: dict[str, str], *arguments: str, shell: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Two ranks of train.py; with `shell` each runs that line, in which $TRAIN is train.py with the arguments."""
    program = [str(ROOT / "train.py"), *arguments]
    if shell is not None:
        train = " ".join([sys.executable, *program])
        program = ["--no-python", "bash", "-c", shell.replace("$TRAIN", train)]
    return subprocess.run(
        [*TORCHRUN, *program], cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def sentences(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_two_ranks_are_one_run(workplace: Path, environment: dict[str, str]) -> None:
    done = torchrun(workplace, environment, *RANKS)
    assert done.returncode == 0, done.stderr
    (run,) = (workplace / "runs").iterdir()
    assert done.stdout.rstrip().endswith(f"run directory: runs/{run.name}")
    summary = json_of(run / "summary.json")
    assert summary["status"] == "finished"
    assert summary["world_size"] == 2
    assert (run / "train-rank1.log").is_file()
    # In their directory nothing is another run's; the next one refuses it, in one sentence of one rank.
    again = torchrun(workplace, environment, *RANKS, f"run_dir={run}", "model=lstm")
    assert again.returncode != 0
    (sentence,) = sentences(again)
    assert "is not empty" in sentence
    assert json_of(run / "summary.json") == summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "mentions"),
    [
        ("$TRAIN model=gruu; echo code $?", "did you mean gru"),
        ("$TRAIN seed=$RANK; echo code $?", "seed=1 on rank 1"),
        # What only one node has: a folder of that name, which is not the one that rank 0 fills.
        (
            "unshare -m bash -c 'test $RANK = 0 || mount -t tmpfs none cache; $TRAIN'; echo code $?",
            "cache_dir",
        ),
    ],
)
def test_ranks_that_differ(workplace: Path, environment: dict[str, str], shell: str, mentions: str) -> None:
    if "unshare" in shell and os.geteuid() != 0:
        pytest.skip("a rank can be given a disk of its own by root only")
    cache = workplace / "cache"
    cache.mkdir()
    done = torchrun(workplace, environment, *RANKS, f"data.cache_dir={cache}", "run_dir=run", shell=shell)
    (sentence,) = sentences(done)
    assert mentions in sentence
    assert done.stdout.split() == ["code", "2"] * 2
    assert not (workplace / "run").exists()


CRASHES = """
import sys
from textrnn.data.module import ReviewsDataModule
from textrnn.commands.train import train
make = ReviewsDataModule.train_dataloader
def train_dataloader(module):
    if module.seed == 1:
        raise RuntimeError("no batches today")
    return make(module)
ReviewsDataModule.train_dataloader = train_dataloader
sys.exit(train(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_refused_job_costs_no_other_and_after_a_crash_none_begins(
    workplace: Path, environment: dict[str, str]
) -> None:
    (workplace / "crashes.py").write_text(CRASHES)
    share = "trainer.limit_train_batches"  # 0.001 is less than a batch
    typed = ["-m", *RANKS, f"{share}=0.001,1.0", "seed=0,1,2", "run_dir=jobs"]
    done = torchrun(workplace, environment, shell=" ".join([sys.executable, "crashes.py", *typed]))
    assert [f"{share}=0.001" in sentence for sentence in sentences(done)] == [True] * 3
    assert json_of(workplace / "jobs" / "3" / "summary.json")["status"] == "finished"
    assert json_of(workplace / "jobs" / "4" / "summary.json")["status"] == "failed"
    assert "job 4 has crashed, and its 2 processes can't begin those after it" in done.stderr
    assert "1 of 6 runs done: jobs" in done.stdout
    assert sorted(path.name for path in (workplace / "jobs").iterdir() if path.is_dir()) == ["3", "4"]


@pytest.mark.slow
def test_what_is_one_process_is_refused(workplace: Path, environment: dict[str, str]) -> None:
    typed = {"sweep.py": ROOT / "sweeps" / "smoke.yaml", "evaluate.py": "run", "predict.py": "run text"}
    shell = "".join(f"{sys.executable} {ROOT / name} {arguments}; echo code $?;" for name, arguments in typed.items())
    done = torchrun(workplace, environment, shell=shell)
    assert sentences(done) == [f"error: {name} is one process; type python {name} without torchrun." for name in typed]
    assert done.stdout.split() == ["code", "2"] * 2 * len(typed)
    assert not (workplace / "runs").exists()


def ranks_of(launcher: int) -> list[int]:
    """The processes that torchrun has started, in the order of their ranks."""
    ranks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher:
                variables = (folder / "environ").read_bytes().split(b"\0")
                ranks |= {int(text[5:]): int(folder.name) for text in variables if text.startswith(b"RANK=")}
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [ranks[rank] for rank in sorted(ranks)]


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_the_same_command_goes_on(
    script: Command, workplace: Path, environment: dict[str, str]
) -> None:
    longer = (*RANKS, "trainer.max_epochs=40", "early_stopping.patience=null", "checkpoint.every_n_train_steps=3")
    process = subprocess.Popen(
        [*TORCHRUN, str(ROOT / "train.py"), *longer, "run_dir=run", "resume=auto"],
        cwd=workplace,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(workplace / "run", 20, process)
    os.kill(ranks_of(process.pid)[0], signal.SIGKILL)  # the one that records; under srun it is another
    killed = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - killed < 60
    assert "Signal 9 (SIGKILL)" in told
    assert (workplace / "run" / "checkpoints" / "last.ckpt").is_file()
    # On one process, whose steps are those of two.
    done = script("train.py", *longer, "trainer.devices=1", "run_dir=run", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert json.loads((workplace / "run" / "summary.json").read_text())["status"] == "finished"
    steps = [int(row["step"]) for row in metrics(workplace / "run")]
    assert steps == sorted(set(steps))
