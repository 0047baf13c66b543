"""Texts of compared reviews, from a token store that is kept on this machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textrnn.comparing.predictions import Predictions

if TYPE_CHECKING:
    from textrnn.data.review_file import Split


def find_split(config: Mapping[str, Any], predictions: Predictions, split: str) -> "Split | None":
    """Return the reviews of a run's predictions from the first store that has them; None without one.

    A store has them if labels and token counts are equal. Nothing is downloaded, and no store is made.

    Args:
        config: The run's configuration, with dotted keys.
        predictions: Its predictions.
        split: The split's name.
    """
    from textrnn.config.schema import DataConfig
    from textrnn.data.store import cache_dir  # the readers of all sources take a moment to import

    stores = cache_dir(DataConfig(cache_dir=config.get("data.cache_dir"))) / "stores"
    for path in sorted(stores.glob("[!.]*/meta.json")):
        if (found := _reviews(path, predictions, split)) is not None:
            return found
    return None


def _reviews(meta: Path, predictions: Predictions, split: str) -> "Split | None":
    from textrnn.data.review_file import Split

    try:
        count = int(json.loads(meta.read_text(encoding="utf-8"))["splits"][split]["reviews"])
        if count <= predictions.indices.max():
            return None
        reviews = Split(meta.parent / f"{split}.arrow")
    except (OSError, ValueError, KeyError, TypeError):  # a damaged store is another program's business
        return None
    alike = np.array_equal(reviews.lengths[predictions.indices], predictions.lengths)
    return reviews if alike and np.array_equal(reviews.labels[predictions.indices], predictions.labels) else None
