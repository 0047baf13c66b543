"""docs/cluster.md: from a login node to results, as it says, with compute nodes that reach neither Hub nor W&B."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.hub import LoopbackHub
from doubles.review_files import imdb_on_hub
from doubles.slurm import Slurm
from doubles.tracked_runs import log_in
from doubles.wandb_server import WandbServer
from support import ROOT

pytestmark = pytest.mark.slow

SHORT = "model.hidden_size=8 trainer.max_epochs=1 trainer.limit_train_batches=4 trainer.limit_val_batches=1"
"""Added to what the page trains."""


def commands() -> list[str]:
    (block,) = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for line in block.splitlines()]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "hub"
    folder.mkdir()
    with LoopbackHub(imdb_on_hub(folder)) as server:
        yield server


def test_the_five_commands(slurm: Slurm, hub: LoopbackHub, workplace: Path, environment: dict[str, str]) -> None:
    for name in ("train.py", "prepare.py", "evaluate.py", "train.sbatch"):
        (workplace / name).symlink_to(ROOT / name)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def run(command: str, **network: str) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=workplace,
            env=environment | slurm.environment | network,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    prepare, train, look, evaluate, sync = commands()
    run(prepare, HF_ENDPOINT=hub.url)
    job = run(f"{train} {SHORT}").split()[-1]
    assert job in run(look)
    slurm.wait(job, "COMPLETED")
    trained = workplace / "runs" / "imdb"
    assert (trained / "train-rank3.log").is_file()
    assert "test/accuracy" in run(evaluate)
    with WandbServer() as server:
        log_in(environment, server)
        run(sync)
        (arrived,) = server.runs.values()
    assert arrived.summary["val/accuracy"] == json.loads((trained / "summary.json").read_text())["val/accuracy"]
