"""No fault of W&B's server loses a part of a run in silence, and what the run's last line says uploads the rest."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.wandb_cases import IMPATIENT, Case, SmallRun, play, sync
from doubles.wandb_server import WandbServer
from support import TESTS

from textrnn.tracking import wandb_received

QUICK = (
    Case("start", "UpsertBucket", 403, once=False),
    Case("middle", "file stream", 403, once=True),
    Case("middle", "file stream", 500, once=False),
    Case("end", "file stream", "half", once=True),
    Case("end", "UpsertBucket", 403, once=True),
    Case("end", "PUT artifact", 403, once=False),
    Case("end", "PUT file", 403, once=False),
    Case("end", "CommitArtifact", 409, once=False),
)
"""Of each kind of loss one; `benchmarks/wandb_faults.py` plays all of `wandb_cases.ALL`."""


@pytest.fixture
def impatient(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb_received, "SETTLING", 1.0)
    return server


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_nothing_is_lost_in_silence_and_the_rest_is_uploaded_later(impatient: WandbServer, tmp_path: Path) -> None:
    wrong = {}
    for number, case in enumerate((None, *QUICK)):
        if said := play(case, impatient, tmp_path, f"run{number}"):
            wrong[str(case)] = said
    gc.collect()
    assert wrong == {}


ENDED = """
from pathlib import Path
from doubles.wandb_cases import SmallRun
from textrnn.base.console import log_to_console
log_to_console()
SmallRun(Path("run"), "ended001").train(None, None, "offline", dies=True)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_an_offline_run_whose_client_is_ended_is_completed_later(
    impatient: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        [sys.executable, "-c", ENDED],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    died, last = ended.stderr.splitlines()  # and no traceback at Python's exit
    assert died.startswith("W&B's client has died")
    assert last == "W&B's offline record of the run lacks its end. To complete it: python train.py resume=run"
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = SmallRun(Path("run"), "ended001")
    run.resume()
    monkeypatch.delenv("WANDB_MODE")
    sync(sorted(Path("run", "wandb").glob("offline-run-*")))
    assert run.lacks(impatient) == ["input"]  # offline W&B takes no inputs
    gc.collect()
