import json
from pathlib import Path

import pytest
import yaml
from doubles.report_runs import make_comparison, make_run, make_sweep

from textrnn.base.errors import InputError
from textrnn.reporting import content as content_module
from textrnn.reporting.content import metrics_so_far, plain, whole_content

pytestmark = pytest.mark.usefixtures("own_cache")

SHORT = {"steps": 200, "evaluated": False}


def test_a_sweep_has_its_metric_its_parameters_and_the_best_run_s_evaluation(tmp_path: Path) -> None:
    page = whole_content([str(make_sweep(tmp_path / "sweep", 22, steps=200))])
    assert (page["kind"], page["metric"]) == ("sweep", {"name": "val/accuracy", "goal": "max"})
    assert len(page["runs"]) == 22
    assert "optimizer.lr" in page["varied"]
    assert "seed" in page["shared"]
    ended = [run for run in page["runs"] if run["state"] in ("finished", "stopped")]
    assert page["importance"]["runs"] == len(ended) == 21
    best = max(page["runs"], key=lambda run: run["metrics"].get("val/accuracy", 0))
    assert page["evaluations"][0]["run"] == best["path"]
    assert any("20 runs" in note for note in page["notes"])
    json.dumps(page, allow_nan=False)


def test_the_title_of_many_folders_is_short(tmp_path: Path) -> None:
    runs = [f"{make_run(tmp_path / f'cells/{seed}', {'seed': seed}, **SHORT)}/" for seed in range(4)]  # type: ignore[arg-type]
    assert whole_content(runs[:1])["title"] == f"{tmp_path}/cells/0"
    assert whole_content(runs)["title"] == f"4 folders in {tmp_path}/cells"


def test_a_goal_comes_from_the_sweep_file(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", 3, **SHORT)  # type: ignore[arg-type]
    (sweep / "sweep.yaml").write_text(yaml.safe_dump({"metric": {"name": "val/loss", "goal": "minimize"}}))
    assert whole_content([str(sweep)])["metric"] == {"name": "val/loss", "goal": "min"}
    (sweep / "sweep.yaml").write_text("metric: [")
    with pytest.raises(InputError, match=r"sweep\.yaml can't be read"):
        whole_content([str(sweep)])


def test_runs_of_one_name_are_told_apart_and_each_is_there_once(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "cells", 2)
    page = whole_content([str(folder), str(folder / "0")])
    assert len(page["runs"]) == 6
    make_run(tmp_path / "again" / "a", {}, name="x", steps=20)
    make_run(tmp_path / "again" / "b", {}, name="x", steps=20)
    labels = [run["label"] for run in whole_content([str(tmp_path / "again")])["runs"]]
    assert labels == ["a: x", "b: x"]


def test_settings_of_records_don_t_count_and_a_key_may_be_missing(tmp_path: Path) -> None:
    for name, key in (("a", "old.key"), ("b", "seed")):
        make_run(tmp_path / name, {key: 5, "run_dir": name, "tracking.name": name}, steps=20)
    page = whole_content([str(tmp_path)])
    assert sorted(page["varied"]) == ["old.key", "seed"]
    assert {run["settings"]["old.key"] for run in page["runs"]} == {5, "(no such key)"}
    assert [plain(value) for value in (None, True, 1.5, float("inf"), [1, "a"])] == [None, True, 1.5, "inf", '[1, "a"]']


def test_damaged_runs_are_left_out_with_a_line(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        make_run(tmp_path / name, {}, steps=20)
    (tmp_path / "a" / "run.json").write_text("{")
    (tmp_path / "b" / "metrics.csv").write_text("step\n1\n2\n3\n")
    (tmp_path / "c" / "evaluation-test" / "metrics.json").write_text("{")
    page = whole_content([str(tmp_path)])
    assert [Path(run["path"]).name for run in page["runs"]] == ["b", "c", "d"]
    assert [note.split(":")[0] for note in page["notes"]] == ["left out", "left out", "no curves"]
    assert page["runs"][0]["curves"] == {}
    with pytest.raises(InputError, match="can't be read"):
        whole_content([str(tmp_path / "a")])
    with pytest.raises(InputError, match="no run in this folder"):
        whole_content([str(tmp_path / "d" / "evaluation-test")])
    with pytest.raises(InputError, match="no such folder"):
        whole_content([str(tmp_path / "e")])


def test_a_run_that_trains_has_its_metrics_so_far(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {}, steps=300, state="killed")
    (run,) = whole_content([str(tmp_path / "a")])["runs"]
    assert run["metrics"]["train/loss"] == run["curves"]["train/loss"][1][-1]
    rows = [
        {"step": 1, "epoch": 0, "val/loss": 0.4, "val/accuracy": 0.8},
        {"step": 2, "epoch": 1, "val/loss": 0.3, "val/accuracy": 0.7, "train/loss": float("nan")},
    ]
    found = metrics_so_far(rows, {"name": "val/accuracy", "goal": "max"})
    assert found == {"val/loss": 0.4, "val/accuracy": 0.8, "train/loss": None}


def test_of_too_many_runs_the_best_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sweep(tmp_path / "sweep", 9, **SHORT)  # type: ignore[arg-type]
    everything = whole_content([str(tmp_path / "sweep")])
    monkeypatch.setattr(content_module, "MOST_RUNS", 4)
    page = whole_content([str(tmp_path / "sweep")])
    best = sorted(everything["runs"], key=lambda run: -run["metrics"].get("val/accuracy", 0))[:4]
    assert {run["path"] for run in page["runs"]} == {run["path"] for run in best}
    assert any(note.startswith("9 runs: the page has the 4 with the best val/accuracy") for note in page["notes"])
    assert page["importance"] == everything["importance"]
