"""Which folder is whose when the list of a multirun's jobs is another one than before."""

import json
from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.config.compose import compose_jobs, parse_command_line
from textrnn.multirun.jobs import Multirun

SYNTHETIC = ("data=synthetic", "run_dir=jobs")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_RUN_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def claim(*typed: str) -> Multirun:
    command_line = parse_command_line(["-m", *SYNTHETIC, *typed])
    return Multirun.claim(compose_jobs(command_line), command_line)


def numbers(*typed: str) -> list[int]:
    return folders_of(claim(*typed, "resume=auto"))


def folders_of(multirun: Multirun) -> list[int]:
    return [int(job.run_dir.name) for job in multirun.jobs]


def test_added_values_and_seeds_get_folders_of_their_own() -> None:
    assert folders_of(claim("optimizer.lr=0.001,0.03")) == [0, 1]
    assert numbers("optimizer.lr=0.001,0.01,0.03") == [0, 2, 1]
    assert numbers("seed=0,1", "optimizer.lr=0.03") == [1, 3]
    assert numbers("optimizer.lr=0.03,0.01", "seed=1,0") == [3, 1, 4, 2]


def test_another_seed_or_model_for_all_jobs_makes_new_runs() -> None:
    assert folders_of(claim("optimizer.lr=0.001,0.03")) == [0, 1]
    assert numbers("optimizer.lr=0.001,0.03", "seed=1") == [2, 3]
    assert numbers("optimizer.lr=0.001,0.03", "model=rnn") == [4, 5]
    assert numbers("optimizer.lr=0.001", "trainer.gradient_clip_val=2") == [6]
    assert numbers("optimizer.lr=0.001", "model.cell=gru", "seed=0") == [0], "however it is typed"


def test_jobs_go_on_with_more_epochs_but_not_where_epochs_are_what_varies() -> None:
    assert folders_of(claim("seed=0,1", "trainer.max_epochs=2")) == [0, 1]
    assert numbers("seed=1,0", "trainer.max_epochs=4", "model.implementation=cell") == [1, 0]
    assert numbers("seed=0", "trainer.max_epochs=2,4", "model.implementation=cell") == [2, 0]
    assert numbers("seed=0", "trainer.max_epochs=8") == [3], "two runs could be meant"


def test_where_epochs_vary_a_run_of_three_goes_on_with_none_of_one() -> None:
    assert folders_of(claim("trainer.max_epochs=1,2")) == [0, 1]
    assert numbers("trainer.max_epochs=2,3") == [1, 2]


def test_what_trains_otherwise_is_another_job() -> None:
    assert folders_of(claim("seed=0")) == [0]
    assert numbers("seed=0", "optimizer.lr=0.01") == [1]


def test_the_same_job_twice_has_two_folders() -> None:
    assert folders_of(claim("seed=0,0")) == [0, 1]
    assert numbers("seed=0,0,0") == [0, 1, 2]
    assert numbers("seed=0,0", "trainer.max_epochs=9") == [0, 1]


def test_folders_that_are_not_on_record_are_left_alone(place: Path) -> None:
    assert folders_of(claim("seed=0")) == [0]
    (place / "jobs" / "7").mkdir()
    assert numbers("seed=0,1") == [0, 8]


def test_what_is_no_parent_of_jobs_is_refused(place: Path) -> None:
    run = place / "jobs" / "0" / "run.json"
    run.parent.mkdir(parents=True)
    run.touch()
    with pytest.raises(InputError, match="run_dir=jobs is not empty; type another directory, or resume=auto"):
        claim("seed=0,1")
    with pytest.raises(InputError, match=r"run_dir=jobs holds 0, but no jobs\.json"):
        numbers("seed=0,1")
    (place / "jobs" / "jobs.json").write_text('{"0": ')
    with pytest.raises(InputError, match=r"jobs/jobs\.json is damaged"):
        numbers("seed=0,1")
    run.rename(place / "jobs" / "run.json")
    with pytest.raises(InputError, match="run_dir=jobs is a run and not the parent"):
        numbers("seed=0,1")
    with pytest.raises(InputError, match=r"run_dir=.* can't be used"):
        claim("run_dir=jobs/run.json")


def test_nothing_is_left_of_jobs_that_were_all_refused(place: Path) -> None:
    multirun = claim("run_dir=deep/jobs", "seed=0,1")
    assert json.loads((place / "deep" / "jobs" / "jobs.json").read_text()).keys() == {"0", "1"}
    multirun.remove_if_unused()
    assert list(place.iterdir()) == []
    (place / "jobs").mkdir()
    multirun = claim("seed=0,1")
    (place / "jobs" / "1").mkdir()
    multirun.remove_if_unused()
    assert (place / "jobs" / "jobs.json").is_file()


def test_a_run_cannot_be_resumed_by_several_jobs(place: Path) -> None:
    for typed, mentions in [
        ("resume=jobs/0", "resume=jobs/0: -m resumes its own jobs only; type run_dir=PARENT resume=auto"),
        ("resume=auto,null", "resume=auto,null: the jobs of -m share one resume"),
        ("run_dir=a,b", "run_dir=a,b: the jobs of -m share one run_dir"),
    ]:
        with pytest.raises(InputError, match=mentions):
            compose_jobs(parse_command_line(["-m", "data=synthetic", typed]))
    assert list(place.iterdir()) == []


def test_one_wandb_run_for_all_jobs_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "same")
    with pytest.raises(InputError, match="WANDB_RUN_ID=same would make one W&B run of all jobs of -m; unset it"):
        claim("seed=0,1")
    assert list(place.iterdir()) == []
