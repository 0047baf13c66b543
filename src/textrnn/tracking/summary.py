"""What a run came to: `summary.json` and the table at its end."""

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
from textrnn.tracking.metrics_csv import METRICS

REMEDY = "remove it, and the run, resumed, writes another"


class Status(StrEnum):
    """Where a run stands, in `summary.json`, sweeps, comparisons and W&B."""

    WAITING = "waiting"
    """Drawn by a sweep, and not begun."""
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Early and for good, by a sweep or a person in W&B."""
    FAILED = "failed"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether the run is not to be continued by itself."""
        return self in (Status.FINISHED, Status.STOPPED, Status.FAILED)

    @property
    def exit_code(self) -> int:
        """What `train.py` returns for a run that ended so."""
        codes = {Status.PREEMPTED: exits.PREEMPTED, Status.INTERRUPTED: exits.INTERRUPTED, Status.FAILED: exits.CRASH}
        return codes.get(self, exits.DONE)


@dataclass(kw_only=True, slots=True)
class RunSummary:
    """How a run ended. In `summary.json` the metrics stand beside the other keys, under their own names."""

    status: Status
    """finished, stopped, preempted, interrupted or failed."""
    metrics: dict[str, float]
    """Final value of each metric, by its name in `metrics.csv`; validation's at the best step."""
    coverage: dict[str, float] = field(default_factory=dict)
    """Shares of the vocabulary's words and of the training reviews' tokens that have a pretrained vector, by their
    names, `vectors/...`; empty without such vectors."""
    parameters: int
    """Trained parameters of the model."""
    tokens: int
    """Tokens trained on, over all epochs and devices, without padding."""
    seconds: float
    """Seconds of training, without validation and checkpoints."""
    waited_seconds: float = 0.0
    """Seconds in which training waited for a segment to be encoded, since the last resumption."""
    world_size: int
    """Processes that trained together, one a device, since the last resumption."""
    batch_size_per_device: int
    """Reviews at most in a device's share of a batch."""
    straggler_fraction: float | None
    """Fraction of the ranks' time spent waiting for a step's straggler, by the lengths alone; None before training."""
    step: int
    """Optimizer steps taken."""
    best_step: int | None
    """Step of `best.ckpt`; None before the first validation."""
    best_epoch: int | None
    """Epoch of `best.ckpt`, from 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `summary.json`, metrics first."""
        values = asdict(self)
        metrics, coverage = values.pop("metrics"), values.pop("coverage")
        values["status"] = str(self.status)  # W&B's client would take an enumeration's name
        return {**{name: metrics[name] for name in METRICS if name in metrics}, **coverage, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the summary that `to_dict` made; raises `InputError` when a key is missing."""
        names = [item.name for item in fields(cls) if item.name not in ("metrics", "coverage")]
        if missing := [name for name in names if name not in values]:
            raise InputError(f"the run's summary lacks {', '.join(missing)}: it was not written by textrnn.")
        metrics = {name: values[name] for name in METRICS if name in values}
        coverage = {name: value for name, value in values.items() if name.startswith("vectors/")}
        kept = {name: values[name] for name in names} | {"status": Status(values["status"])}
        return cls(metrics=metrics, coverage=coverage, **kept)


def write_summary(summary_json: Path, summary: RunSummary) -> None:
    """Write `summary.json` atomically. A loss that is not finite stands there as Python's `json` writes it: NaN."""
    write_atomically(summary_json, json.dumps(summary.to_dict(), indent=2) + "\n")


def read_summary(summary_json: Path) -> dict[str, Any]:
    """Return the content of `summary.json`.

    Raises:
        FileNotFoundError: the run hasn't ended.
        InputError: it is no run's summary, or not whole.
    """
    try:
        values = json.loads(summary_json.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{summary_json} is damaged ({error}); {REMEDY}.") from error
    if not isinstance(values, dict) or values.get("status") not in list(Status):
        raise InputError(f"{summary_json} does not say how the run ended; {REMEDY}.")
    return values


def read_status(summary_json: Path) -> Status | None:
    """Return how the run ended by its `summary.json`, None without one: it trains, or was killed.

    Raises:
        InputError: it is no run's summary, or not whole.
    """
    try:
        return Status(read_summary(summary_json)["status"])
    except FileNotFoundError:
        return None


def summary_table(name: str, summary: RunSummary) -> Table:
    """Return the table that ends a run: metrics by split, then what it took."""
    title = Text(f"{name}: {summary.status}", style="table.title")  # the name as it is, no markup
    table = Table(title=title, title_justify="left", show_edge=False, min_width=60)
    table.add_column("")
    for split in ("train", "validation", "test"):
        table.add_column(split, justify="right")
    for quantity in ("loss", "accuracy", "f1", "auroc"):
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
