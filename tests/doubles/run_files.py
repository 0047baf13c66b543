"""A small run's command line, and what it left, without timings."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from textrnn.data.store import Store

SMALL = (
    "data=synthetic",
    "data.synthetic.train_reviews=300",
    "data.synthetic.test_reviews=60",
    "data.max_length=60",
    "model.hidden_size=8",
    "model.embedding.size=8",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=2",
    "data.batch_size=32",
    "tracking=none",
)
TIMINGS = {"train/tokens_per_second", "seconds", "waited_seconds"}


def metrics(run: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without timings."""
    with (run / "metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIMINGS} for row in csv.DictReader(file)]


def summary(run: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in values.items() if name not in TIMINGS}


def predictions(run: Path, split: str = "test") -> list[dict[str, str]]:
    """Rows of predictions.csv."""
    with (run / f"evaluation-{split}" / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def only_store(environment: Mapping[str, str]) -> Store:
    """The token store of the one data set that a home has seen."""
    (path,) = Path(environment["XDG_CACHE_HOME"]).glob("textrnn/stores/[!.]*/")
    return Store(path)


def json_of(path: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads(path.read_text())
    return values
