"""Whose a run's directory is: of ranks that run the same code, and of a job that SLURM has started again."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from textrnn.base.errors import InputError, RefusedElsewhere
from textrnn.config.schema import Config
from textrnn.distributed import slurm
from textrnn.distributed.launch import SHARED_RUN, Launch
from textrnn.distributed.ranks import Ranks
from textrnn.distributed.slurm import Job
from textrnn.tracking import identity as identities
from textrnn.training import claim

OF_A_SWEEP = ("WANDB_SWEEP_ID", slurm.TRIAL)


def agree(**differs: str) -> None:
    """As rank 0 of two, of which the other one says the same but for what `differs`."""
    ranks = SimpleNamespace(
        launch=SimpleNamespace(is_external=True),
        is_first=True,
        gather=lambda mine: [mine, json.dumps(json.loads(mine) | {"host": "n2"} | differs)],
        barrier=contextlib.nullcontext,
    )
    claim.agree(Config(), cast(Ranks, ranks))


def test_ranks_with_other_code_are_refused() -> None:
    agree()
    with pytest.raises(
        InputError, match=r"rank 1 \(n2\) runs other code than rank 0 \(.*\): bring the package up to date"
    ):
        agree(code="0" * 64)


def test_a_directory_that_another_rank_does_not_see_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def refused() -> Iterator[None]:
        yield
        raise RefusedElsewhere("rank 1 has refused its input")

    monkeypatch.delenv(SHARED_RUN, raising=False)
    ranks = Ranks(Launch())
    monkeypatch.setattr(ranks, "barrier", refused)
    with pytest.raises(RefusedElsewhere):
        claim.claim(Config(run_dir=str(tmp_path / "run")), ["train.py"], ranks)
    assert list(tmp_path.iterdir()) == []


def test_the_task_of_an_array_is_asked_for_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM tells of all tasks where it is asked for the array's own number, which is the last one's, too."""
    asked = []

    def show(job: str) -> dict[str, str]:
        asked.append(job)
        return {"BatchFlag": "1", "Requeue": "1", "Restarts": "2", "JobState": "RUNNING"}

    monkeypatch.setattr(slurm, "_show", show)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    for name in OF_A_SWEEP:
        monkeypatch.delenv(name, raising=False)
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_RUN_ID", "mine")  # which a person may have chosen
    assert slurm.batch_job() == Job(id="7_3", restarts=2, state="RUNNING")
    assert asked == ["7_3"]
    for name in OF_A_SWEEP:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert slurm.batch_job() is None, "a sweep starts its trials again"


@pytest.mark.parametrize(
    ("restarts", "job", "goes_on"),
    [(1, "7", True), (0, "7", False), (1, "8", False)],
    ids=["started again", "a second command in the job", "another job"],
)
def test_only_a_job_that_slurm_has_started_again_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int, job: str, goes_on: bool
) -> None:
    config = Config(run_dir=str(tmp_path / "run"))

    def take(now: Job) -> tuple[str | None, str]:
        monkeypatch.delenv(SHARED_RUN, raising=False)
        monkeypatch.setattr(claim, "batch_job", lambda: now)
        taken, directory, identity = claim.claim(config, ["train.py"], Ranks(Launch()))
        directory.release()
        return taken.resume, identity.id

    resume, run = take(Job(id="7", restarts=0, state="RUNNING"))
    assert resume is None
    again = Job(id=job, restarts=restarts, state="RUNNING")
    if goes_on:
        assert take(again) == ("auto", run)
    else:
        with pytest.raises(InputError, match="is not empty"):
            take(again)


def test_a_resume_with_other_code_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def take(resume: str | None = None) -> str | None:
        monkeypatch.delenv(SHARED_RUN, raising=False)
        config = Config(run_dir=str(tmp_path / "run"), resume=resume)
        _, directory, identity = claim.claim(config, ["train.py"], Ranks(Launch()))
        directory.release()
        return identity.source

    monkeypatch.setattr(claim, "keep_uncommitted", lambda *_: None)  # this checkout's, of which a line tells
    first = take()
    assert take("auto") == first
    assert caplog.text == ""
    monkeypatch.setattr(identities, "source_digest", lambda: "another")
    assert take("auto") == first
    assert f"(source {str(first)[:8]})" in caplog.text


def test_a_run_id_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(name: str, resume: str | None = None) -> str:
        monkeypatch.delenv(SHARED_RUN, raising=False)
        config = Config(run_dir=str(tmp_path / name), resume=resume)
        _, directory, identity = claim.claim(config, ["train.py"], Ranks(Launch()))
        directory.release()
        return identity.id

    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    assert take("a") != take("b")
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.setenv("WANDB_RESUME", "allow")
    assert take("c") == take("c", resume="auto") == "mine"
    with pytest.raises(InputError, match=r"WANDB_RUN_ID=mine is the id of the run in .*/c; unset it for a new run"):
        take("d")
    assert not (tmp_path / "d").exists()
    monkeypatch.setenv("WANDB_RUN_ID", "other")
    with pytest.raises(InputError, match=r"WANDB_RUN_ID=other: .*/c holds the run mine; unset it"):
        take("c", resume="auto")
