from pathlib import Path

import pytest
import yaml
from doubles.recorded_runs import make_run

from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.lookup.records import dotted, kind_of, places, read_config, read_run, read_set, run_paths, sweep_metrics


def test_a_record_has_configuration_metrics_and_state(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", seed=3, summary={"val/accuracy": 0.5, "status": "finished", "tokens": 7})
    record = read_run(path)
    assert (record.name, record.seed, record.state) == ("gru s3", 3, "finished")
    assert record.metrics == {"val/accuracy": 0.5}
    assert record.config == {
        "model.cell": "gru",
        "model.embedding.size": 8,
        "optimizer.betas": [0.9, 0.999],
        "seed": 3,
    }
    assert next(iter(record.config)) == "model.cell"


def test_a_run_without_an_end_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    assert read_run(path).state == "killed"
    lock = FileLock(path / ".lock")
    lock.acquire()
    try:
        assert read_run(path).state == "running"
    finally:
        lock.release()


def test_runs_below_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("m/10", "m/9", "m/a", "one"):
        make_run(tmp_path / name)
    (tmp_path / "m" / "jobs.json").write_text("{}")
    assert [str(path.relative_to(tmp_path)) for path in run_paths(tmp_path)] == ["m/9", "m/10", "m/a", "one"]
    found = read_set(str(tmp_path / "m"))
    assert (found.kind, len(found.runs)) == ("multirun", 3)
    assert (kind_of(tmp_path), kind_of(tmp_path / "one")) == ("folder", "run")


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run"):
        read_set(str(tmp_path))
    with pytest.raises(InputError, match="no such folder"):
        read_set(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"has no run\.json"):
        read_run(tmp_path)
    path = make_run(tmp_path / "a")
    (path / "run.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        read_run(path)


TEXTS = (
    "data:\n  path: ['a: b', c]\n  synthetic: {}\n  text_column:\n  - a\n  - b\nseed: 1\n",
    "tracking:\n  notes: 'two\n\n    lines: of\n\n    text'\n  tags: []\nrun_dir: runs/a\n",
    "# by hand\na:\n    b: 1\n    c:\n        - 1\nshared: &one\n  x: 1\nagain: *one\n",
    "{a: {b: 1}, c: null}",
    "a: |\n  text:\n  b\nb: 2\n",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_configuration_is_read_by_parts_as_yaml_reads_the_whole(text: str) -> None:
    assert dict(read_config(text)) == dict(dotted(yaml.safe_load(text)))


def test_a_run_copied_in_part_is_damaged_and_not_searched(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", summary={})
    make_run(tmp_path / "b")
    (run / "run.json").unlink()
    assert [bool(place.damage) for place in places(str(tmp_path))] == [True, False]
    assert [path.name for path in run_paths(tmp_path)] == ["b"]
    for text in ("model:\n  ce", ""):
        (tmp_path / "b" / "config.yaml").write_text(text)
        with pytest.raises(InputError, match="not copied whole"):
            read_run(tmp_path / "b")


def test_links_repeat_no_run_and_never_loop(tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs", tmp_path / "disk"
    make_run(inside / "a")
    make_run(outside / "b")
    for name, target in {"latest": inside / "a", "loop": inside, "up": tmp_path, "far": outside}.items():
        (inside / name).symlink_to(target)
    assert [path.name for path in run_paths(inside)] == ["a", "b"]


def test_the_metrics_of_a_sweep(tmp_path: Path) -> None:
    assert sweep_metrics(tmp_path) == []
    file = tmp_path / "sweep.yaml"
    file.write_text("metric: {name: val/loss, goal: minimize}\n")
    assert [metric["name"] for metric in sweep_metrics(tmp_path)] == ["val/loss"]
    file.write_text("metrics: [{name: val/accuracy, goal: maximize}, {name: train/tokens_per_second}]\n")
    assert [metric["name"] for metric in sweep_metrics(tmp_path)] == ["val/accuracy", "train/tokens_per_second"]
    file.write_text("method: grid\n")
    assert sweep_metrics(tmp_path) == []
    file.write_text("metrics: 3\n")
    with pytest.raises(InputError, match="can't be read"):
        sweep_metrics(tmp_path)
