import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from textrnn.base.errors import InputError
from textrnn.config.schema import Config, ModelConfig
from textrnn.tracking.identity import new_identity
from textrnn.tracking.run_directory import RunDirectory, default_run_dir

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from textrnn.tracking.run_directory import RunDirectory
RunDirectory.claim(Path(sys.argv[1]), resume=False)
print("claimed", flush=True)
time.sleep(60)
"""


def _tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_default_names_differ_and_say_what_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    config = Config(model=ModelConfig(cell="lstm"), seed=3)
    identities = [new_identity(config, ["train.py"]) for _ in range(2)]
    first, second = (default_run_dir(config, identity) for identity in identities)
    assert re.fullmatch(rf"runs/\d{{8}}-\d{{6}}-lstm-s3-{identities[0].id}", str(first))
    assert first != second


def test_a_trial_of_a_sweep_finds_its_own_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial7")
    config = Config()
    assert default_run_dir(config, new_identity(config, ["train.py"])) == Path("runs/sweep1/trial7")


def test_claim_makes_parents_and_gives_the_names_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with RunDirectory.claim(path, resume=False) as run:
        files = (run.config_yaml, run.run_json, run.metrics_csv, run.summary_json, run.curves_png, run.train_log)
        names = [str(file.relative_to(path)) for file in (*files, run.best_ckpt, run.last_ckpt)]
        assert names[:4] == ["config.yaml", "run.json", "metrics.csv", "summary.json"]
        assert names[4:] == ["curves.png", "train.log", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    RunDirectory.claim(path, resume=False).release()  # holds only the lock file: as good as empty


def test_a_directory_in_use_is_refused_until_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_WAIT, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        for resume in (False, True):
            with pytest.raises(InputError, match=r"run_dir .* is in use by another process"):
                RunDirectory.claim(path, resume=resume)
        other.send_signal(signal.SIGKILL)
    RunDirectory.claim(path, resume=False).release()


def test_one_process_does_not_claim_twice(tmp_path: Path) -> None:
    run = RunDirectory.claim(tmp_path, resume=True)
    with pytest.raises(InputError, match="in use"):
        RunDirectory.claim(tmp_path, resume=True)
    run.release()
    run.release()
    RunDirectory.claim(tmp_path, resume=True).release()


def test_a_directory_that_holds_a_run_is_for_resume_only(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run_dir .* is not empty: type resume=auto"):
        RunDirectory.claim(tmp_path, resume=False)
    assert _tree(tmp_path) == ["run.json"]
    RunDirectory.claim(tmp_path, resume=True).release()
    with pytest.raises(InputError, match="not empty"):
        RunDirectory.claim(tmp_path, resume=False)


@pytest.mark.parametrize("locked", [False, True])
def test_a_directory_that_holds_no_run_is_nobodys(tmp_path: Path, locked: bool) -> None:
    """Beginning anew in another program's folder would cost its checkpoints."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch=9-step=100.ckpt").write_text("x")
    if locked:
        (tmp_path / ".lock").touch()
    before = _tree(tmp_path)
    with pytest.raises(InputError, match=r"holds checkpoints/epoch=9-step=100.ckpt and no run: choose another run_dir"):
        RunDirectory.claim(tmp_path, resume=True)
    assert _tree(tmp_path) == before


def test_a_jobs_log_may_lie_where_a_run_begins(tmp_path: Path) -> None:
    (tmp_path / "slurm-7.out").write_text("x")
    RunDirectory.claim(tmp_path, resume=True).release()


def test_what_is_called_so_and_not_ours_is_something(tmp_path: Path) -> None:
    (tmp_path / "mine.tmp").mkdir()
    with pytest.raises(InputError, match="is not empty"):
        RunDirectory.claim(tmp_path, resume=False)
    RunDirectory.claim(tmp_path, resume=True).discard()
    assert _tree(tmp_path) == [".lock", "mine.tmp"]


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_kill_left_of_the_first_file_is_no_run(tmp_path: Path, resume: bool) -> None:
    (tmp_path / ".run.json.123.tmp").write_text("{")
    RunDirectory.claim(tmp_path, resume=resume).release()
    assert _tree(tmp_path) == [".lock"]


def test_what_a_kill_left_in_a_runs_folders_is_removed(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for folder in ("checkpoints", "wandb"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".half.123.tmp").write_text("x")
    RunDirectory.claim(tmp_path, resume=True).release()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_in_the_way_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="run_dir"):
            RunDirectory.claim(path, resume=True)
    assert _tree(tmp_path) == ["file"]


def test_an_overlong_name_is_refused_and_its_new_parents_go(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run_dir"):
        RunDirectory.claim(tmp_path / "new" / "parent" / ("x" * 300), resume=False)
    assert _tree(tmp_path) == []


def test_a_file_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(InputError, match="run_dir"):
        RunDirectory.claim(Path("/proc/textrnn/run"), resume=False)


def test_a_discarded_directory_is_as_it_was(tmp_path: Path) -> None:
    run = RunDirectory.claim(tmp_path / "new" / "run", resume=False)
    run.checkpoints.mkdir()
    run.train_log.write_text("refused")
    run.discard()
    assert _tree(tmp_path) == []
    (tmp_path / "run.json").write_text("x")
    run = RunDirectory.claim(tmp_path, resume=True)
    run.discard()
    assert _tree(tmp_path) == [".lock", "run.json"]


def test_another_process_of_the_run_joins_without_the_lock(tmp_path: Path) -> None:
    with RunDirectory.claim(tmp_path, resume=True), RunDirectory.join(tmp_path) as joined:
        assert joined.last_ckpt == tmp_path / "checkpoints" / "last.ckpt"
    RunDirectory.claim(tmp_path, resume=True).release()


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits don't hold root back")
def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="run_dir"):
        RunDirectory.claim(tmp_path, resume=False)
    with pytest.raises(InputError, match="run_dir"):
        RunDirectory.claim(tmp_path / "run", resume=False)


def test_what_a_killed_writer_left_goes_at_the_next_claim(tmp_path: Path) -> None:
    (tmp_path / ".summary.json.4711.tmp").write_text("{")
    RunDirectory.claim(tmp_path, resume=True).release()
    assert _tree(tmp_path) == [".lock"]
