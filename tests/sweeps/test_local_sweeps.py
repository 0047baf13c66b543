"""Sweeps without an account, with real trials: what they leave, and that no kill, stop or failure loses anything."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.sweep_runs import SMALL, broken, leaderboard, start, sweep_directory, sweep_file, wait
from support import ROOT, Command

DIES = """
import os, signal, subprocess
init = subprocess.Popen.__init__
def init_and_die(self, *args, **kwargs):
    init(self, *args, **kwargs)
    if kwargs.get("pass_fds"):
        os.kill(os.getpid(), signal.SIGKILL)
subprocess.Popen.__init__ = init_and_die
"""
"""A module that Python imports at its start: sweep.py is killed as soon as it has started a trial."""


@pytest.mark.slow
def test_a_sweep_ends_in_a_ranking_a_picture_and_an_experiment(script: Command, here: Command, workplace: Path) -> None:
    done = script("sweep.py", str(ROOT / "sweeps" / "smoke.yaml"), *SMALL, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    directory = sweep_directory(workplace)
    lines = done.stdout.splitlines()
    for number in (1, 2):
        assert sum(line.startswith(f"trial {number} (") and " starts: optimizer.lr=0.0" in line for line in lines) == 1
        assert sum(line.startswith(f"trial {number}: val/loss") for line in lines) == 2
        assert sum(line.startswith(f"trial {number} finished with val/loss") for line in lines) == 1
    assert lines[-1] == f"sweep directory: runs/{directory.name}"
    (offline,) = [line for line in lines if line.startswith("W&B is offline")]
    assert f"To view: wandb leet runs/{directory.name}/TRIAL/wandb;" in offline  # it takes one folder
    assert offline.endswith(f"wandb sync runs/{directory.name}/*/wandb/offline-run-*")
    rows = leaderboard(directory)
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert sorted(row["optimizer.lr"] for row in rows) == ["0.001", "0.01"]
    for row in rows:
        run = workplace / row["run_dir"]
        with (run / "metrics.csv").open() as file:
            values = [float(line["val/loss"]) for line in csv.DictReader(file) if line["val/loss"]]
        assert float(row["best val/loss"]) == min(values)
        assert float(row["last val/loss"]) == values[-1]
        identity = json.loads((run / "run.json").read_text())
        assert (identity["id"], identity["group"]) == (run.name, directory.name)
        assert list((run / "wandb").glob(f"offline-run-*-{run.name}"))
    assert float(rows[0]["best val/loss"]) <= float(rows[1]["best val/loss"])
    assert (directory / "sweep.png").read_bytes().startswith(b"\x89PNG")
    best = f"runs/{directory.name}/best.yaml"
    trained = here("train.py", f"experiment={best}", "run_dir=best", "tracking=none")
    assert trained.returncode == 0, trained.stderr
    config = yaml.safe_load((workplace / "best" / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == float(rows[0]["optimizer.lr"])
    assert config["model"]["hidden_size"] == 8
    assert config["test"]
    folders = (workplace / "best", workplace / rows[0]["run_dir"])
    again, before = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    assert again["val/loss"] == before["val/loss"]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_without_losing_or_repeating_a_trial(
    workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    path = sweep_file(workplace, parameters={"trainer.max_epochs": {"values": [1, 80, 2]}})
    environment["PYTHONPATH"] = broken(tmp_path, "trainer.max_epochs=1")
    process = start([str(path), "early_stopping.patience=null"], workplace, environment)

    def trials() -> list[dict[str, Any]]:
        found = [json.loads(file.read_text()) for file in workplace.glob("runs/*/trials/*.json")]
        return sorted(found, key=lambda trial: trial["number"])

    wait(process, lambda: bool(list(workplace.glob("runs/*/*/metrics.csv"))))
    second_trial = trials()[1]
    process.kill()
    process.communicate()
    (lock,) = workplace.glob(f"runs/*/trials/{second_trial['run']}.lock")
    os.kill(int(lock.read_text()), 0)  # it still runs: its sweep was killed, not it
    again = start(["--resume", str(sweep_directory(workplace))], workplace, environment)
    refused = start(["--resume", str(sweep_directory(workplace))], workplace, environment)
    outputs = [running.communicate(timeout=200)[0] for running in (again, refused)]
    codes = [again.returncode, refused.returncode]
    assert sorted(codes) == [1, 2], outputs  # one of the trials has failed; and two at once don't get the sweep
    output = outputs[codes.index(1)]
    assert "in use" in outputs[codes.index(2)]
    assert f"trial 2 ({second_trial['run']}) is still running" in output
    assert [trial["status"] for trial in trials()] == ["failed", "finished", "finished"]
    assert [trial["parameters"]["trainer.max_epochs"] for trial in trials()] == [1, 80, 2]
    rows = leaderboard(sweep_directory(workplace))
    assert [(row["rank"], row["status"]) for row in rows] == [("1", "finished"), ("2", "finished"), ("", "failed")]
    assert rows[-1]["reason"] == "exit code 1: RuntimeError: planted"
    for row in rows[:2]:
        log = (sweep_directory(workplace) / "trials" / f"{row['run']}.log").read_text()
        assert log.count("run directory: ") == 1  # once is what a run says at its end


@pytest.mark.slow
def test_ctrl_c_ends_trials_cleanly_and_resume_goes_on(workplace: Path, environment: dict[str, str]) -> None:
    path = sweep_file(workplace, parameters={"optimizer.lr": {"values": [0.01]}})
    long = ["trainer.max_epochs=20", "early_stopping.patience=null"]
    process = start([str(path), "--agents", "1", *long], workplace, environment)
    wait(process, lambda: any(file.read_text().count("\n") > 3 for file in workplace.glob("runs/*/*/metrics.csv")))
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    directory = sweep_directory(workplace)
    assert f"resume: python sweep.py --resume runs/{directory.name} --agents 1\n" in output
    (row,) = leaderboard(directory)
    assert (row["status"], row["rank"]) == ("interrupted", "")
    assert (workplace / row["run_dir"] / "checkpoints" / "last.ckpt").is_file()
    assert not (directory / "best.yaml").exists()
    again = start(["--resume", directory.name], workplace, environment)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert "trial 1 (" in output
    assert "resumes: optimizer.lr=0.01" in output
    (row,) = leaderboard(directory)
    assert row["status"] == "finished"
    with (workplace / row["run_dir"] / "metrics.csv").open() as file:
        steps = [int(line["step"]) for line in csv.DictReader(file)]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_trial_whose_sweep_was_killed_as_it_started_is_found_and_ended(
    workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "dies").mkdir()
    (tmp_path / "dies" / "sitecustomize.py").write_text(DIES)
    path = sweep_file(workplace)
    long = ["trainer.max_epochs=500", "early_stopping.patience=null"]
    found = os.pathsep.join((str(tmp_path / "dies"), environment.get("PYTHONPATH", "")))
    begun = start([str(path), *long], workplace, environment | {"PYTHONPATH": found})
    output = begun.communicate(timeout=60)[0]
    assert begun.returncode == -signal.SIGKILL, output
    again = start(["--resume", sweep_directory(workplace).name], workplace, environment)
    assert again.stdout is not None
    assert any("is still running" in line for line in again.stdout)
    wait(again, lambda: any(file.read_text().count("\n") > 3 for file in workplace.glob("runs/*/*/metrics.csv")))
    again.send_signal(signal.SIGINT)
    output = again.communicate(timeout=60)[0]
    assert again.returncode == 130, output
    (row,) = leaderboard(sweep_directory(workplace))
    assert row["status"] == "interrupted", output


@pytest.mark.slow
def test_the_file_names_project_and_entity_where_nothing_is_typed(script: Command, workplace: Path) -> None:
    path = sweep_file(workplace, tracking="offline", project="plays", entity="drama")
    fast = ["trainer.max_epochs=1", "tracking.entity=comedy"]
    done = script("sweep.py", str(path), *fast, WANDB_PROJECT="environment")
    assert done.returncode == 0, done.stdout + done.stderr
    directory = sweep_directory(workplace)
    (row,) = leaderboard(directory)
    tracking = yaml.safe_load((workplace / row["run_dir"] / "config.yaml").read_text())["tracking"]
    assert (tracking["project"], tracking["entity"], tracking["group"]) == ("plays", "comedy", directory.name)
    (record,) = (workplace / row["run_dir"]).glob("wandb/offline-run-*/*.wandb")
    assert b"plays" in record.read_bytes(), "where wandb sync takes it"


@pytest.mark.slow
def test_a_weak_trial_is_stopped_while_it_runs(workplace: Path, environment: dict[str, str]) -> None:
    path = sweep_file(
        workplace,
        metric={"name": "train/loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 20, "eta": 3},
        parameters={"optimizer.lr": {"values": [0.02, 1.0e-07]}},
    )
    process = start(
        [str(path), "--agents", "2", "trainer.max_epochs=40", "early_stopping.patience=null"], workplace, environment
    )
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    good, weak = leaderboard(sweep_directory(workplace))
    assert (good["status"], good["optimizer.lr"]) == ("finished", "0.02")
    assert (weak["status"], weak["rank"], weak["optimizer.lr"]) == ("stopped", "", "1e-07")
    assert weak["reason"].startswith("hyperband: best train/loss")
    assert "trial 2 stopped" in output
    summary = json.loads((workplace / weak["run_dir"] / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert summary["step"] < json.loads((workplace / good["run_dir"] / "summary.json").read_text())["step"]
    best = yaml.safe_load((sweep_directory(workplace) / "best.yaml").read_text())
    assert best["optimizer"]["lr"] == 0.02


def test_three_failures_at_once_end_the_sweep(script: Command, workplace: Path, tmp_path: Path) -> None:
    path = sweep_file(workplace, parameters={"seed": {"values": list(range(9))}})
    done = script("sweep.py", str(path), "--agents", "2", PYTHONPATH=broken(tmp_path, "resume=auto"))
    assert done.returncode == 1, done.stderr
    assert "3 trials in a row failed before they logged anything" in done.stdout
    assert done.stdout.count("RuntimeError: planted") >= 4  # of each trial, and of the sweep
    rows = leaderboard(sweep_directory(workplace))
    assert {row["status"] for row in rows} == {"failed"}
    assert 3 <= len(rows) <= 4
    assert "no trial has finished" in done.stdout
