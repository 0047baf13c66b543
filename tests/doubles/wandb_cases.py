"""A tiny run with the real W&B client and our logger, in a few seconds, under any fault of the loopback server.

It has everything that a run uploads: rows, a summary, a picture, a table, a chart, a model and the data as its input.
`play` runs it under a fault and ends with what the user was told; `repair` does what the line says.
"""

import logging
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import wandb
from doubles.tracked_runs import wandb_core
from doubles.wandb_server import Fault, WandbServer
from PIL import Image

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.config.schema import Config, TrackingConfig
from textrnn.tracking import wandb_artifacts, wandb_received, wandb_run
from textrnn.tracking.identity import new_identity, read_identity, write_identity
from textrnn.tracking.logger import RunLogger
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import RunSummary, Status, write_summary
from textrnn.tracking.wandb_artifacts import ALIASES, dataset_artifact, model_artifact
from textrnn.tracking.wandb_end import end_wandb_run, open_record, upload_missing
from textrnn.tracking.wandb_run import WandbRun

if TYPE_CHECKING:
    import pytest

KINDS = (400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, "errors", "reset", "stall", "half")
MOMENTS = {
    "start": ("Viewer", "UpsertBucket", "CreateRunFiles", "CreateArtifact", "UseArtifact", "file stream", "PUT file"),
    "middle": ("UpsertBucket", "file stream"),
    "end": (
        *("UpsertBucket", "file stream", "CreateRunFiles", "PUT file", "CreateArtifact", "CreateArtifactManifest"),
        *("CreateArtifactFiles", "PUT artifact", "PUT manifest", "CommitArtifact"),
    ),
}
"""When a fault begins, and the operations that the client performs from then on."""
STEPS = (5, 10, 15, 20)
MODEL = b"weights"
IMPATIENT = {
    "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
    **{
        f"WANDB_X_{what}_RETRY_{key}": "1"
        for what in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL")
        for key in ("MAX", "WAIT_MIN_SECONDS", "WAIT_MAX_SECONDS")
    },
    "WANDB_INIT_TIMEOUT": "8",
    "WANDB_FINISH_TIMEOUT": "8",
}
"""Environment in which the client gives up after seconds, where it would after minutes."""


@dataclass(frozen=True)
class Case:
    """A fault from a moment on: once, or for good."""

    moment: str
    operation: str
    kind: int | str
    once: bool

    def __str__(self) -> str:
        return f"{self.operation} gets {self.kind} {'once' if self.once else 'for good'} from the {self.moment} on"


ALL = [
    Case(moment, operation, kind, once)
    for moment, operations in MOMENTS.items()
    for operation in operations
    for kind in KINDS
    for once in (True, False)
    if not (kind == "errors" and operation.startswith(("PUT", "file")))  # those are no GraphQL
]


def patient(monkeypatch: "pytest.MonkeyPatch") -> None:
    """Wait longer for answers, where a busy machine's time is not the matter."""
    for module in (wandb_received, wandb_run):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT", 100.0)
    monkeypatch.setattr(wandb_artifacts, "LINK_TIMEOUT", 100.0)


class SmallRun:
    """A run directory and its W&B run."""

    def __init__(self, folder: Path, run_id: str, *, registry: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.registry = registry
        self.config = Config(tracking=TrackingConfig(project="films"), run_dir=str(folder))
        self.directory = RunDirectory(folder, None)
        if self.directory.run_json.is_file():  # another process has made it
            self.identity = read_identity(self.directory.run_json)
            return
        self.identity = new_identity(self.config, ["train.py"])
        self.identity.id = run_id
        write_identity(self.directory.run_json, self.identity)
        Image.new("RGB", (2, 2)).save(folder / "picture.png")
        (folder / "best.ckpt").write_bytes(MODEL)
        self.directory.train_log.touch()

    def charts(self, summary: RunSummary) -> dict[str, Any]:
        table = wandb.Table(columns=["x", "y"], data=[[1, 2.0]])
        return {
            "test/evaluation": wandb.Image(str(self.directory.path / "picture.png")),
            "test/mistakes": wandb.Table(columns=["text"], data=[["a fine film"]]),
            "test/roc": wandb.plot_table("wandb/line/v0", table, {"x": "x", "y": "y"}, {"title": "ROC"}),
        }

    def report(self, summary: RunSummary, run: WandbRun) -> None:
        folder = run.directory / "model"
        folder.mkdir()
        (folder / "best.ckpt").write_bytes(MODEL)
        run.tag("half")
        if run.url is not None:
            run.use_artifact(dataset_artifact("abc", {"fingerprint": "abc"}))
        run.log_artifact(model_artifact(f"gru-{run.id}", folder, {"best_step": 10}), ALIASES, registry=self.registry)

    def summary(self) -> RunSummary:
        return RunSummary(
            status=Status.FINISHED,
            metrics={"train/loss": 1 / STEPS[-1], "test/loss": 0.25},
            parameters=3,
            tokens=100,
            seconds=1.5,
            world_size=1,
            batch_size_per_device=8,
            straggler_fraction=None,
            step=STEPS[-1],
            best_step=10,
            best_epoch=1,
        )

    def train(self, server: WandbServer | None, case: Case | None, mode: str = "online", *, dies: bool = False) -> bool:
        """Do what a run does; return whether it is online. `dies`: the client's service ends before the run does."""
        _begin(server, case, "start")
        run = WandbRun.start(self.config, self.identity, self.directory.path, mode=mode, resume=False)
        open_record(run, self.directory)
        if run.url is not None:
            run.use_artifact(dataset_artifact("abc", {"fingerprint": "abc"}))
        trainer = SimpleNamespace(global_step=0, current_epoch=0, testing=False)
        logger = RunLogger(self.directory.path, self.identity)
        logger.attach(trainer, run)  # type: ignore[arg-type]
        for number, step in enumerate(STEPS):
            if number == 2:
                _begin(server, case, "middle")
                run.tag("half")
            trainer.global_step = step
            logger.log_metrics({"train/loss": 1 / step})
        _begin(server, case, "end")
        if dies:  # as `scancel` ends it: every process of a job gets the signal
            os.kill(wandb_core(os.getpid()), signal.SIGTERM)
        logger.log_metrics({"test/loss": 0.25})
        summary = self.summary()
        logger.add_media(STEPS[-1], self.charts(summary))
        logger.close(over=True)
        folder = run.directory / "model"
        folder.mkdir()
        (folder / "best.ckpt").write_bytes(MODEL)
        run.log_artifact(model_artifact(f"gru-{run.id}", folder, {"best_step": 10}), ALIASES, registry=self.registry)
        write_summary(self.directory.summary_json, summary)
        end_wandb_run(run, self.directory, summary, 0)
        return run.url is not None

    def resume(self) -> None:
        """What `resume=RUN` does with a run that is over."""
        if self.directory.wandb_unsent.is_file():
            upload_missing(self.config, self.identity, self.directory, charts=self.charts, report=self.report)

    def lacks(self, server: WandbServer) -> list[str]:
        """Return what is missing or doubled in the server, as its own memory says."""
        run = server.runs.get(self.identity.id)
        if run is None:
            return ["run"]
        found = []
        steps = [row["_step"] for row in run.rows]
        if steps != list(STEPS):
            found.append(f"rows: {steps}")
        if run.state != "finished":
            found.append(f"state: {run.state}")
        wanted = {name: value for name, value in self.summary().to_dict().items() if value is not None}
        found += [f"summary of {name}" for name, value in wanted.items() if run.summary.get(name) != value]
        if not [name for name in run.files if name.startswith("media/images/")]:
            found.append("picture")
        found += [name for name in ("wandb-summary.json", "config.yaml") if name not in run.files]
        found += [] if run.record.get("tags") == ["half"] else [f"tag: {run.record.get('tags')}"]
        if "test/roc" not in run.raw_config["_wandb"]["value"].get("visualize", {}):
            found.append("chart")
        versions = [artifact for artifact in server.artifacts.values() if artifact.version is not None]
        names = {artifact.collection: artifact for artifact in versions}
        if f"gru-{run.id}" not in names or names[f"gru-{run.id}"].files.get("best.ckpt") != MODEL:
            found.append("model")
        tables = [name for name in names if name.startswith(f"run-{run.id}-test")]
        if len(tables) != 2 or not all(names[name].files for name in tables):
            found.append(f"tables: {tables}")
        if run.id not in getattr(names.get("reviews-abc"), "used_by", []):
            found.append("input")
        return found


def _begin(server: WandbServer | None, case: Case | None, moment: str) -> None:
    if server is not None and case is not None and case.moment == moment:
        server.faults.append(Fault(case.operation, case.kind, times=1 if case.once else None))


class _Told(logging.Handler):
    """The warnings that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def play(case: Case | None, server: WandbServer, folder: Path, run_id: str) -> str | None:
    """Run a case to its end; return what is wrong about it, None if nothing is."""
    run, handler = SmallRun(folder / run_id, run_id), _Told()
    LOGGER.addHandler(handler)
    try:
        online = run.train(server, case)
    except InputError as error:
        return None if case is not None and case.moment == "start" else f"refused: {error}"
    finally:
        server.faults.clear()
        LOGGER.removeHandler(handler)
    told = handler.lines
    lacks = run.lacks(server)
    if lacks and not any(re.search(r"resume=|wandb sync", line) for line in told):
        return f"lacks {lacks} and says {told}"
    if online:
        run.resume()
    else:
        sync([next((run.directory.path / "wandb").glob("offline-run-*"))])
        lacks = [what for what in run.lacks(server) if what != "input"]  # offline W&B takes no inputs
        return f"after sync it lacks {lacks}" if lacks else None
    if lacks := run.lacks(server):
        return f"after {told} and resume it lacks {lacks}"
    return "it has everything, and is marked as unsent" if run.directory.wandb_unsent.exists() else None


def sync(folders: Sequence[Path]) -> None:
    """`wandb sync`, in this process."""
    from wandb.cli.cli import cli

    cli.main(["sync", *map(str, folders)], standalone_mode=False)
