"""What a finished run leaves in W&B: one run against the loopback server, read back, and its model used by name."""

import csv
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.run_files import SMALL
from doubles.wandb_server import WandbServer
from support import Command

KEY = "0123456789" * 4
STEPS = 18


@dataclass(kw_only=True)
class Finished:
    server: WandbServer
    place: Path
    """Where it was started; its directory is `run`."""
    command: Command
    """An entry script there, with the account, in this process."""

    @property
    def model(self) -> str:
        (name,) = {f"tester/films/{a.collection}" for a in self.server.artifacts.values() if a.type == "model"}
        return name

    def table(self, key: str) -> dict[str, Any]:
        """The table that W&B's row of the last step names under `key`."""
        (run,) = self.server.runs.values()
        table: dict[str, Any] = json.loads(run.files[run.rows[-1][key]["path"]])
        return table


@pytest.fixture
def finished(script: Command, here: Command, workplace: Path) -> Iterator[Finished]:
    with WandbServer() as server:
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
        tracking = ("tracking=online", "tracking.project=films", "tracking.watch=all", "tracking.mistakes=7")
        done = script("train.py", *SMALL, *tracking, "run_dir=run", **account)
        assert done.returncode == 0, done.stderr
        yield Finished(server=server, place=workplace, command=partial(here, **account))


def test_charts_histograms_model_and_lineage_arrive_and_the_model_is_used(finished: Finished) -> None:
    (run,) = finished.server.runs.values()
    steps = [row["_step"] for row in run.rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS
    _histograms_are_in_their_steps_rows(run.rows)
    _charts_tell_the_files_numbers(finished, run.raw_config["_wandb"]["value"]["visualize"])
    _model_is_whole(finished, run.id)
    _model_is_used_by_name(finished)
    assert not [path for path in finished.place.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def _histograms_are_in_their_steps_rows(rows: list[dict[str, Any]]) -> None:
    """Of the network with the compiled recurrence, in the rows that have the training's metrics, and in no others."""
    for row in rows:
        kinds = {kind: sorted(name for name in row if name.startswith(kind)) for kind in ("gradients/", "parameters/")}
        assert len(kinds["gradients/"]) == len(kinds["parameters/"]) == (11 if "train/loss" in row else 0)
        if "train/loss" in row:
            assert row["_step"] % 2 == 0
            assert "gradients/encoder.layers.0.directions.1.kernel.weight_hh_l0" in row
            bias = row["gradients/output.bias"]
            assert sum(bias["values"]) == 1
            assert len(bias["bins"]) == len(bias["values"]) + 1


def _charts_tell_the_files_numbers(finished: Finished, visualized: dict[str, Any]) -> None:
    folder = finished.place / "run" / "evaluation-test"
    measured = json.loads((folder / "metrics.json").read_text())
    names = {f"test/{name}" for name in ("roc", "precision_recall", "confusion_matrix", "accuracy_by_length")}
    assert names == set(visualized)
    counts = [row[2] for row in finished.table("test/confusion_matrix_table")["data"]]
    assert counts == [count for row in measured["confusion_matrix"] for count in row]
    by_length = finished.table("test/accuracy_by_length_table")["data"]
    assert [row[1:] for row in by_length] == [[b["accuracy"], b["reviews"]] for b in measured["accuracy_by_length"]]
    curve = finished.table("test/roc_table")["data"]
    assert (curve[0][1:], curve[-1][1:]) == ([0, 0], [1, 1])
    area = sum((b[1] - a[1]) * (a[2] + b[2]) / 2 for a, b in itertools.pairwise(curve))
    assert area == pytest.approx(measured["test/auroc"], abs=1e-5)
    with (folder / "mistakes.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    mistakes = finished.table("test/mistakes")
    assert mistakes["columns"] == header
    assert [[str(cell) for cell in row] for row in mistakes["data"]] == rows
    assert len(rows) == 7
    (run,) = finished.server.runs.values()
    assert run.files[run.rows[-1]["test/evaluation"]["path"]] == (folder / "evaluation.png").read_bytes()


def _model_is_whole(finished: Finished, run_id: str) -> None:
    run = finished.place / "run"
    summary = json.loads((run / "summary.json").read_text())
    (model,) = [artifact for artifact in finished.server.artifacts.values() if artifact.type == "model"]
    assert (model.collection, model.run, sorted(model.aliases)) == (f"gru-{run_id}", run_id, ["best", "latest"])
    assert model.files["best.ckpt"] == (run / "checkpoints" / "best.ckpt").read_bytes()
    assert yaml.safe_load(model.files["config.yaml"])["model"]["cell"] == "gru"
    assert json.loads(model.files["tokenizer.json"])["model"]["vocab"]["<unk>"] == 1
    for name in ("test/accuracy", "val/accuracy", "best_step"):
        assert model.metadata[name] == summary[name]
    (data,) = [artifact for artifact in finished.server.artifacts.values() if artifact.type == "dataset"]
    assert data.used_by == [run_id]
    assert data.files == {}
    fingerprint = model.metadata["data"]["fingerprint"]
    assert data.collection == f"reviews-{fingerprint}"
    assert model.metadata["data"]["splits"]["test"]["reviews"] == 60


def _model_is_used_by_name(finished: Finished) -> None:
    told = finished.command("predict.py", "run", "a fine film")
    for reference in (f"wandb:{finished.model}:best", f"wandb:films/{finished.model.rpartition('/')[2]}"):
        fetched = finished.command("predict.py", reference, "a fine film")
        assert (fetched.returncode, fetched.stdout, fetched.stderr) == (0, told.stdout, "")
    done = finished.command("evaluate.py", f"wandb:{finished.model}:latest")
    assert done.returncode == 0, done.stderr
    (folder,) = finished.place.glob("evaluation-test-gru-*-v0")
    measured = [
        json.loads((path / "metrics.json").read_text()) for path in (folder, finished.place / "run/evaluation-test")
    ]
    assert measured[0]["confusion_matrix"] == measured[1]["confusion_matrix"]
    unmet = finished.command("predict.py", "wandb:tester/films/gru-none:best", "a fine film")
    assert unmet.returncode == 2
    assert "gru-none:best' not found" in unmet.stderr
    assert unmet.stderr.count("\n") == 1


def test_offline_the_model_waits_in_the_run_directory_and_is_synced(
    script: Command, workplace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    done = script("train.py", *SMALL, "tracking=offline", "tracking.mistakes=0", "test=false", "run_dir=run")
    assert done.returncode == 0, done.stderr
    (record,) = (workplace / "run" / "wandb").glob("offline-run-*")
    tables = [path.name for path in (record / "files" / "media" / "table" / "val").iterdir()]
    assert len(tables) == 4
    assert not [name for name in tables if name.startswith("mistakes")]
    best = (workplace / "run" / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "another-home").mkdir()
    with WandbServer() as server:
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
        home = {"HOME": str(tmp_path / "another-home")}
        command = [sys.executable, "-m", "wandb", "sync", str(record)]
        subprocess.run(
            command, cwd=workplace, env=environment | account | home, check=True, timeout=60, capture_output=True
        )
        identity = json.loads((workplace / "run" / "run.json").read_text())
        model = server.artifact(f"gru-{identity['id']}:best")
        (row,) = [row for row in server.runs[identity["id"]].rows if "val/roc_table" in row]
    assert model is not None
    assert model.files["best.ckpt"] == best
    assert row["_step"] == STEPS


def test_a_server_that_stalls_at_the_end_costs_only_the_charts_there(script: Command, workplace: Path) -> None:
    """The server falls silent when the folder of the evaluation appears; the run ends in time, with all its files."""
    with WandbServer() as server:

        def fall_silent() -> None:
            while not (workplace / "run" / "evaluation-test").exists() and not ended.wait(0.01):
                pass
            server.stall()

        ended = threading.Event()
        leaving = threading.Thread(target=fall_silent, daemon=True)
        leaving.start()
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_FINISH_TIMEOUT": "3"}
        done = script("train.py", *SMALL, "tracking=online", "run_dir=run", **account)
        ended.set()
        leaving.join()
    assert done.returncode == 0, done.stderr
    assert "W&B does not answer" in done.stderr
    assert "the run directory has them" in done.stderr
    assert json.loads((workplace / "run" / "summary.json").read_text())["status"] == "finished"
    assert (workplace / "run" / "evaluation-test" / "evaluation.png").stat().st_size > 0
