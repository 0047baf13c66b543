"""The end of a run at W&B, and what a run directory records of its W&B run."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.tracked_runs import wandb_core
from doubles.wandb_cases import MODEL, SmallRun, patient
from doubles.wandb_server import Fault, WandbServer

from textrnn.tracking import wandb_end, wandb_received
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.wandb_end import mark_as_preempted, open_record
from textrnn.tracking.wandb_run import WandbRun


def trial_of_an_agent(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> SmallRun:
    for variable, value in (("SWEEP_ID", "sweep1"), ("RUN_ID", name), ("PROJECT", "films")):
        monkeypatch.setenv(f"WANDB_{variable}", value)
    return SmallRun(place / "run", name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_a_service_that_has_ended_is_replaced_to_ask_what_w_and_b_has(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def missing(logged: wandb_received.Logged) -> list[str]:
        asked.append(logged.path)
        if len(asked) == 1:  # SLURM sends SIGTERM to every process of a job
            os.kill(wandb_core(os.getpid()), signal.SIGTERM)
        return wandb_received.missing(logged)

    monkeypatch.setattr(wandb_end, "missing", missing)
    patient(monkeypatch)
    run = SmallRun(tmp_path / "run", "ended001")
    run.train(server, None)
    assert len(asked) == 2, caplog.text
    assert not run.directory.wandb_unsent.exists()
    assert run.lacks(server) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_a_trial_whose_end_w_and_b_lacks_is_left_to_its_sweep(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trial_of_an_agent(tmp_path, "ended001", monkeypatch)
    run.train(server, None, dies=True)
    assert run.directory.wandb_unsent.exists()
    assert server.runs[run.identity.id].state == "preempted"
    run.resume()  # what `resume=auto` does in the agent that gets it
    assert run.lacks(server) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
@pytest.mark.parametrize("before", ["nothing", "a run", "a run that has noticed"])
def test_a_trial_that_is_hit_beside_training_is_known_as_preempted(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    run = trial_of_an_agent(tmp_path, "early001", monkeypatch)
    if before != "nothing":  # the trial uploads what is missing when SLURM's SIGTERM ends the client's service too
        begun = WandbRun.start(run.config, run.identity, run.directory.path, mode="online", resume=True)
        os.kill(wandb_core(os.getpid()), signal.SIGTERM)
        if before == "a run that has noticed":
            assert not begun.is_alive()
    mark_as_preempted(run.config, run.identity, run.directory)
    assert server.runs["early001"].state == "preempted"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_a_link_that_is_refused_is_made_by_a_resume(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patient(monkeypatch)
    caplog.set_level("INFO", logger="textrnn")
    run = SmallRun(tmp_path / "run", "linked001", registry="wandb-registry-model/imdb")
    server.faults = [Fault("LinkArtifact", 403)]
    run.train(server, None)
    assert run.lacks(server) == []
    refused = (
        "W&B does not link the model to wandb-registry-model/imdb (LinkArtifact gets 403). The registry must exist, "
        "tester must be a team of its organization, and you a Member or an Admin of the registry. To link it then: "
        f"python train.py resume={run.directory.path}"
    )
    assert refused in caplog.messages
    assert run.directory.wandb_unsent.exists()
    run.resume()
    assert "the model is film-lab/wandb-registry-model/imdb:v0 in W&B's registry" in caplog.messages
    (link,) = server.registry.links["wandb-registry-model/imdb"]
    assert (link.collection, link.files["best.ckpt"]) == ("gru-linked001", MODEL)
    assert not run.directory.wandb_unsent.exists()
    assert run.lacks(server) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # folders of the client's tables
def test_an_offline_run_says_what_links_its_model(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="textrnn")
    run = SmallRun(tmp_path / "run", "linked002", registry="wandb-registry-model/imdb")
    run.train(None, None, mode="offline")
    told = (
        "W&B is offline: the model is not linked to wandb-registry-model/imdb. To upload and link it: "
        f"python train.py resume={run.directory.path} tracking=online"
    )
    assert told in caplog.messages
    assert not run.directory.wandb_unsent.exists()
    assert server.runs == {}


@pytest.mark.parametrize("url", ["https://example.org/runs/a", None], ids=["online", "offline"])
def test_the_page_of_a_run_is_recorded_once_there_is_one(tmp_path: Path, url: str | None) -> None:
    run: Any = SimpleNamespace(url=url, directory=tmp_path / "wandb")
    directory = RunDirectory.join(tmp_path)
    open_record(run, directory)
    assert directory.wandb_unsent.read_text() == f"{tmp_path / 'wandb'}\n"
    assert directory.wandb_url.is_file() == (url is not None)
    if url is not None:
        assert directory.wandb_url.read_text() == f"{url}\n"
