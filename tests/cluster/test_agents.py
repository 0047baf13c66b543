"""sweeps/slurm_agents.sbatch on a real SLURM: agents of W&B, one a GPU, and what becomes of them when time is up."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from doubles.quick_agent import QUICK_AGENT
from doubles.slurm import Slurm, until
from doubles.sweep_runs import SMALL, sweep_file
from doubles.tracked_runs import log_in
from doubles.wandb_server import ServerSweep, WandbServer
from support import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SCRIPT = str(ROOT / "sweeps" / "slurm_agents.sbatch")
LITTLE = ("--cpus-per-task=1", "--mem-per-cpu=500M")
NOTES_WHERE_IT_RUNS = """
import json, os, pathlib, time
mine = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "WANDB_RUN_ID", "SLURM_JOB_ID")}
mine["node"] = os.readlink("node")
trials = pathlib.Path("trials")
(trials / mine["WANDB_RUN_ID"]).write_text(json.dumps(mine))
while len(list(trials.iterdir())) < 4:  # so that no agent is through before all have begun
    time.sleep(0.05)
"""
"""The program of a sweep without training."""


@pytest.fixture
def server(environment: dict[str, str], workplace: Path) -> Iterator[WandbServer]:
    """An account, and a `wandb` whose agents ask more often, first in PATH."""
    with WandbServer() as running:
        log_in(environment, running)
        tools = workplace / "tools"
        tools.mkdir()
        wandb = tools / "wandb"
        code = f"import sys; sys.argv.pop(1)\n{QUICK_AGENT[2]}"
        wandb.write_text(f"#!{sys.executable}\n{code}\n")
        wandb.chmod(0o755)
        environment["PATH"] = f"{tools}:{Path(sys.executable).parent}:{environment['PATH']}"
        yield running
    assert running.unknown == []


def register(server: WandbServer, path: Path) -> ServerSweep:
    config = yaml.safe_load(path.read_text())
    answer = server.answer("UpsertSweep", {"projectName": "films", "config": yaml.safe_dump(config)})
    return server.sweeps[answer["upsertSweep"]["sweep"]["id"]]
