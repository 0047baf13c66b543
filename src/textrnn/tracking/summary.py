"""A run's result: `summary.json` and the table at its end."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from textrnn.base import exits
from textrnn.base.console import duration
from textrnn.base.errors import InputError
from textrnn.base.files import write_atomically
from textrnn.tracking.metrics_csv import METRICS, PERPLEXITIES

REMEDY = "remove it, and the run, resumed, writes another"


class Status(StrEnum):
    """Status of a run, in `summary.json`, sweeps, comparisons and W&B."""

    WAITING = "waiting"
    """Drawn by a sweep and not started."""
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Early and for good, by a sweep or a person in W&B."""
    FAILED = "failed"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether the run has ended for good."""
        return self in (Status.FINISHED, Status.STOPPED, Status.FAILED)

    @property
    def exit_code(self) -> int:
        """Exit code of `train.py` for this status."""
        codes = {Status.PREEMPTED: exits.PREEMPTED, Status.INTERRUPTED: exits.INTERRUPTED, Status.FAILED: exits.CRASH}
        return codes.get(self, exits.DONE)


@dataclass(kw_only=True, slots=True)
class RunSummary:
    """Result of a run. In `summary.json` the metrics are keys beside the others, under their own names."""

    status: Status
    """finished, stopped, preempted, interrupted or failed."""
    metrics: dict[str, float]
    """Final value of each metric, by its name in `metrics.csv`; validation metrics are those of the best step."""
    coverage: dict[str, float] = field(default_factory=dict)
    """Shares of the vocabulary's words and of the training reviews' tokens with a pretrained vector, as `vectors/...`;
    empty without pretrained vectors."""
    parameters: int
    """Trained parameters of the model."""
    tokens: int
    """Tokens trained on, over all epochs and devices, without padding."""
    seconds: float
    """Seconds of training, without validation and checkpoints."""
    waited_seconds: float = 0.0
    """Seconds that training waited for segments to be encoded, since the last resume."""
    world_size: int
    """Processes that trained together, one per device, since the last resume."""
    batch_size_per_device: int
    """Maximum number of reviews in a device's share of a batch."""
    straggler_fraction: float | None
    """Fraction of the ranks' time spent waiting for a step's straggler, by the lengths alone; None before training."""
    step: int
    """Optimizer steps taken."""
    best_step: int | None
    """Step of `best.ckpt`; None before the first validation."""
    best_epoch: int | None
    """Epoch of `best.ckpt`, from 0."""
    temperature: float | None = None
    """What the logits of `best.ckpt` are divided by for calibrated probabilities; None: nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `summary.json`, metrics first."""
        values = asdict(self)
        metrics, coverage = values.pop("metrics"), values.pop("coverage")
        values["status"] = str(self.status)  # W&B's client would use the enumeration's name
        return {**{name: metrics[name] for name in METRICS if name in metrics}, **coverage, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the summary that `to_dict` made; raises `InputError` when a key is missing."""
        others = ("metrics", "coverage", "temperature")  # earlier versions had no temperature
        names = [item.name for item in fields(cls) if item.name not in others]
        if missing := [name for name in names if name not in values]:
            raise InputError(f"the run's summary has no {', '.join(missing)}: it was not written by textrnn.")
        metrics = {name: values[name] for name in METRICS if name in values}
        coverage = {name: value for name, value in values.items() if name.startswith("vectors/")}
        kept = {name: values[name] for name in names} | {"status": Status(values["status"])}
        return cls(metrics=metrics, coverage=coverage, temperature=values.get("temperature"), **kept)


def write_summary(summary_json: Path, summary: RunSummary) -> None:
    """Write `summary.json` atomically. A loss that is not finite is written as by Python's `json`: NaN."""
    write_atomically(summary_json, json.dumps(summary.to_dict(), indent=2) + "\n")


def read_summary(summary_json: Path) -> dict[str, Any]:
    """Return the content of `summary.json`.

    Raises:
        FileNotFoundError: the run hasn't ended.
        InputError: it is damaged or not a run's summary.
    """
    try:
        values = json.loads(summary_json.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{summary_json} is damaged ({error}); {REMEDY}.") from error
    if not isinstance(values, dict) or values.get("status") not in list(Status):
        raise InputError(f"{summary_json} does not say how the run ended; {REMEDY}.")
    return values


def read_status(summary_json: Path) -> Status | None:
    """Return the run's status from `summary.json`; None without the file: the run is training or was killed.

    Raises:
        InputError: it is damaged or not a run's summary.
    """
    try:
        return Status(read_summary(summary_json)["status"])
    except FileNotFoundError:
        return None


def summary_table(name: str, summary: RunSummary) -> Table:
    """Return the table at the end of a run: metrics by split, then tokens and time."""
    title = Text(f"{name}: {summary.status}", style="table.title")  # Text: the name is not markup
    table = Table(title=title, title_justify="left", show_edge=False, min_width=60)
    table.add_column("")
    for split in ("train", "validation", "test"):
        table.add_column(split, justify="right")
    others = PERPLEXITIES if "val/perplexity" in summary.metrics else ("accuracy", "f1", "auroc")
    for quantity in ("loss", *others):
        cells = [summary.metrics.get(f"{prefix}/{quantity}") for prefix in ("train", "val", "test")]
        table.add_row(quantity, *("" if cell is None else f"{cell:.4f}" for cell in cells))
    best = "none" if summary.best_epoch is None else f"epoch {summary.best_epoch + 1}, step {summary.best_step}"
    speed = f", {summary.tokens / summary.seconds:,.0f} a second" if summary.seconds > 0 else ""
    table.caption = (
        f"best: {best}   {summary.parameters:,} parameters\n"
        f"{summary.tokens:,} tokens in {duration(summary.seconds)}{speed}"
    )
    table.caption_justify = "left"
    return table
