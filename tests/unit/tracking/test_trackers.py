"""Trackers other than W&B: each has every row once, also after a kill and a resume."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.tiny_training import identity

from textrnn.base.errors import InputError
from textrnn.config.checks import check
from textrnn.config.schema import Config, TrackingConfig
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.metrics_csv import Row, read_metrics, repair
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.trackers import OpenTracker, open_tracker

WHO = identity()
END = 10
"""The last step."""


@dataclass
class TrackioRun:
    """Part of trackio 0.43's `Run` (run.py: `log` appends a row, whatever the step)."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.rows.append({"step": step, **metrics})


class TrackioDouble:
    """Part of trackio 0.43: `init` with resume="never" makes another run of the same name (__init__.py).

    A run that `finish` of the module has not ended is ended at Python's exit, with a line on stdout (the same file).
    `Api().runs` refuses an unknown project with a ValueError; `delete` removes one run (api.py).
    """

    def __init__(self) -> None:
        self.stored: dict[str, list[TrackioRun]] = {}
        self.config: Mapping[str, Any] = {}
        self.current: TrackioRun | None = None

    def init(self, project: str, name: str, group: str | None, config: Mapping[str, Any], **how: Any) -> TrackioRun:
        print(f"* Trackio project initialized: {project}")
        assert how == {"resume": "never", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        assert not any(key.startswith("_") for key in config)  # run.py reserves them
        self.config = config
        self.stored.setdefault(project, []).append(TrackioRun(name))
        self.current = self.stored[project][-1]
        return self.current

    def finish(self) -> None:
        print("* Run finished. Uploading logs to Trackio (please wait...)")
        self.current = None

    def Api(self) -> Any:  # noqa: N802 - trackio's name
        def runs(project: str) -> list[Any]:
            if project not in self.stored:
                raise ValueError(f"Project '{project}' does not exist")
            there = self.stored[project]
            return [SimpleNamespace(name=run.name, delete=lambda run=run: there.remove(run)) for run in list(there)]

        return SimpleNamespace(runs=runs)


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> TrackioDouble:
    double = TrackioDouble()
    monkeypatch.setitem(sys.modules, "trackio", double)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return double


def logged(mode: str, run_dir: Path, steps: Sequence[int]) -> OpenTracker:
    """Log rows of these steps, after those in `metrics.csv`; return the tracker, to which the last row is not sent."""
    run_dir.mkdir(exist_ok=True)
    logger = RunLogger(run_dir, WHO)
    tracker = open_tracker(mode, Config(), WHO, RunDirectory.join(run_dir))
    assert tracker is not None
    fit: Any = SimpleNamespace(global_step=0, current_epoch=0, testing=False)
    logger.attach(fit, tracker=tracker)
    for step in steps:
        fit.global_step = step
        logger.log_metrics({"train/loss": 1 / step})
        logger.log_metrics({"lr": step / 10})
    logger.close(over=steps[-1] == END)
    return tracker


def killed_and_resumed(mode: str, run_dir: Path) -> tuple[list[Row], OpenTracker]:
    """Log a run that was killed after the checkpoint of step 4, and resumed; return its rows."""
    logged(mode, run_dir, [2, 4, 6])
    repair(run_dir / "metrics.csv", 4)
    tracker = logged(mode, run_dir, [6, 8, END])
    tracker.finish()
    return read_metrics(run_dir / "metrics.csv"), tracker


def test_trackio_has_each_row_once_after_a_kill_and_a_resume(
    trackio: TrackioDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trackio.init("textrnn", "another", None, {}, resume="never", embed=False, auto_log_gpu=False, auto_log_cpu=False)
    capsys.readouterr()
    rows, tracker = killed_and_resumed("trackio", tmp_path / "run")
    another, run = trackio.stored["textrnn"]
    assert another.name == "another"
    assert (run.name, trackio.current) == (f"{WHO.name} {WHO.id}", None)
    assert run.rows == rows
    assert [row["step"] for row in rows] == [2, 4, 6, 8, END]
    assert (trackio.config["model.cell"], trackio.config["run.id"]) == ("gru", WHO.id)
    assert tracker.view == "trackio show --project textrnn"
    assert capsys.readouterr().out == ""


def test_tensorboard_has_each_value_once_after_a_kill_and_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows, tracker = killed_and_resumed("tensorboard", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name in ("train/loss", "lr", "epoch"):
        stored = events.Scalars(name)
        assert [event.step for event in stored] == [row["step"] for row in rows]
        assert [event.value for event in stored] == pytest.approx([row[name] for row in rows], rel=1e-6)  # float32
    assert events.Tags()["tensors"] == ["config/text_summary"]
    assert tracker.view == f"tensorboard --logdir {tmp_path}"


def test_a_tracker_that_fails_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        view = "nowhere"

        def log(self, values: Mapping[str, float], *, step: int) -> None:
            raise RuntimeError("database is locked")

        def finish(self) -> None:
            raise AssertionError("it has been left")

    tracker = OpenTracker("trackio", Failing())
    tracker.log({}, step=1)
    tracker.log({}, step=2)
    tracker.finish()
    assert caplog.text.count("trackio has failed (RuntimeError: database is locked); the run continues") == 1


def test_a_tracker_that_is_not_installed_or_not_local_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(tracking=TrackingConfig(mode="trackio"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'trackio is not installed here; type pip install "textrnn\[trackio\]"'):
        check(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin="there"))
    check(config)
    config.tracking.watch = "all"
    with pytest.raises(InputError, match="which tracking=trackio doesn't use"):
        check(config)
    config.tracking.watch = None
    monkeypatch.setenv("TRACKIO_SPACE_ID", "a/b")
    with pytest.raises(InputError, match="unset TRACKIO_SPACE_ID"):
        check(config)
