"""Reviews for measurements: IMDB where it exists, else generated ones."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from machine import ROOT
from textrnn.config.schema import DataConfig, SyntheticConfig
from textrnn.data.batches import Batch, collate, plan_epoch
from textrnn.data.review_file import Split
from textrnn.data.store import Store, prepare_store

IMDB = ROOT.parent / "shared" / "imdb"
"""Default of `--data-path`: a folder in the Hub's layout of stanfordnlp/imdb."""

FEW = SyntheticConfig(train_reviews=600, test_reviews=100, difficulty=1.0)
"""Generated reviews for `--quick`."""


def data_config(path: str | None, *, quick: bool, **settings: int | str) -> DataConfig:
    """Return the source of the reviews; generated ones with `quick` or where `path` doesn't exist."""
    config = DataConfig(path=path)
    if quick or path is None or not Path(path).exists():
        config = DataConfig(source="synthetic", synthetic=FEW if quick else SyntheticConfig())
    return replace(config, **settings)  # type: ignore[arg-type]  # names and types are the caller's


def source_name(config: DataConfig) -> str:
    """Return the name of the reviews in a report; no path, which would reveal something about the machine."""
    return "generated reviews" if config.path is None else "IMDB"


def open_store(config: DataConfig) -> Store:
    """Return the token store, made now if there is none yet."""
    return prepare_store(config)


def representative(
    plan: list[npt.NDArray[np.int64]], lengths: npt.NDArray[np.integer], count: int, seed: int
) -> list[npt.NDArray[np.int64]]:
    """Return `count` steps that represent a plan: a random one from each `count`-th of the steps by length."""
    ordered = sorted(plan, key=lambda step: int(lengths[step].sum()))
    generator = np.random.default_rng(seed)
    strata = np.array_split(np.arange(len(ordered)), min(count, len(ordered)))
    return [ordered[generator.choice(stratum)] for stratum in strata]


def representative_batches(store: Store, *, max_length: int, batch_size: int, count: int) -> list[Batch]:
    """Return `count` training batches of all lengths, each of the last `max_length` tokens of its reviews."""
    split = store.split("train")
    lengths = np.minimum(split.lengths, max_length)
    plan = plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=0)
    return list(batches(split, representative(plan, lengths, count, seed=0), max_length))


def batches(split: Split, plan: Iterable[npt.NDArray[np.int64]], max_length: int) -> Iterator[Batch]:
    """The plan's reviews, their last `max_length` tokens, padded behind up to the longest of a batch."""
    for rows in plan:
        yield collate(
            split,
            rows,
            np.ones(len(rows), dtype=np.float32),
            max_length=max_length,
            truncate="tail",
            global_batch_size=len(rows),
        )
