"""The sweep's directory, where the disk or somebody else has been at it: one sentence that names the file."""

import os
from pathlib import Path

import pytest
from doubles.sweeps_made import sweep, trial

from textrnn.base.errors import InputError
from textrnn.sweeping.trials import SweepDirectory, next_number


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["runs", "runs/sweep001"])
def test_a_file_in_its_place(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    with pytest.raises(InputError, match="runs/sweep001 can't be made"):
        SweepDirectory.create(sweep(), "tester/films/sweep001")


@pytest.mark.parametrize("link", [False, True])
def test_it_is_known_beforehand_that_there_can_be_none(link: bool) -> None:
    SweepDirectory.check()
    assert not Path("runs").exists()
    if link:
        Path("runs").symlink_to("nowhere")
    else:
        Path("runs").touch()
    with pytest.raises(InputError, match="runs is not a folder"):
        SweepDirectory.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable() -> None:
    Path("runs").mkdir(mode=0o500)
    with pytest.raises(InputError, match="runs is not writable"):
        SweepDirectory.check()
    with pytest.raises(InputError, match="can't be made"):
        SweepDirectory.create(sweep())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"status": "running"}',
        b'{"number": 1, "run": "a", "parameters": {}, "status": "?"}',
        b"\xff",
    ],
)
def test_a_damaged_trial_is_named_and_can_be_moved_away(content: bytes) -> None:
    directory = SweepDirectory.create(sweep())
    for number in (1, 2):
        directory.save(trial(number, {"seed": number}))
    damaged = directory.path / "trials" / "run1.json"
    damaged.write_bytes(content)
    with pytest.raises(InputError, match=r"trials/run1\.json is damaged") as caught:
        directory.trials()
    assert "\n" not in str(caught.value)
    damaged.unlink()
    assert next_number(directory.trials()) == 3
    directory.release()
