"""No fault of W&B's server loses a part of a run in silence, and what the run's last line says uploads the rest."""

import gc
from pathlib import Path

import pytest
from doubles.wandb_cases import IMPATIENT, Case, play
from doubles.wandb_server import WandbServer

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
