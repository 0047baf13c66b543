"""Runs grouped into settings: runs of one setting differ in their seed only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from textrnn.comparing.predictions import Predictions
from textrnn.lookup.records import RunRecord

NOT_A_SETTING = ("seed", "run_dir", "resume", "test", "tracking", "data.cache_dir")
"""Keys that make no other setting: those of the seed, of the records and of where stores are kept."""


@dataclass(kw_only=True, slots=True)
class Setting:
    """The predictions of runs that differ in their seed only, on one split."""

    name: str
    by_seed: dict[int, Predictions] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Its seeds, growing."""
        return sorted(self.by_seed)

    def right(self, seeds: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return whether each review is predicted to be of its class, (seeds, reviews)."""
        return np.stack([self.by_seed[seed].right for seed in seeds])

    def of_label(self, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
        """Return the probability of each review's class, (reviews,), the mean over the seeds."""
        mean: npt.NDArray[np.float64] = np.mean([self.by_seed[seed].of_label for seed in seeds], axis=0)
        return mean


def pair(first: Setting, second: Setting) -> tuple[list[int], list[int]]:
    """Return the seeds of both settings in pairs: those that both have or, if there are none, in their order.

    Runs of one seed read the texts in the same order. Other pairs are as valid, only less alike.
    """
    if common := [seed for seed in first.seeds if seed in second.by_seed]:
        return common, common
    pairs = min(len(first.seeds), len(second.seeds))
    return first.seeds[:pairs], second.seeds[:pairs]


def group(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs of each setting, in the order of their first runs."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(repr(sorted(_setting(record.config).items())), []).append(record)
    return list(groups.values())


def names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each setting: the fewest keys, with their values, that tell all of them apart."""
    keys, chosen = differing(configs), list[str]()

    def told_apart(by: Sequence[str]) -> int:
        return len({tuple(_shown(config, key) for key in by) for config in configs})

    while keys and told_apart(chosen) < told_apart(keys):
        chosen.append(max(keys, key=lambda key: told_apart([*chosen, key])))  # of equals the first
    return [", ".join(f"{key}={_shown(config, key)}" for key in chosen) for config in configs]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys in which the settings differ, in the order of the configurations."""
    keys = dict.fromkeys(key for config in configs for key in _setting(config))
    return [key for key in keys if len({_shown(config, key) for config in configs}) > 1]


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    def is_one(key: str) -> bool:
        return not any(key == name or key.startswith(f"{name}.") for name in NOT_A_SETTING)

    return {key: value for key, value in config.items() if is_one(key)}


def _shown(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
