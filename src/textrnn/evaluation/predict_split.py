"""A network's predictions of a whole split."""

import torch

from textrnn.config.schema import DataConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import SplitPredictions
from textrnn.model.network import TextClassifier


def predict_split(
    network: TextClassifier, split: Split, data: DataConfig, *, classes: tuple[str, ...], batch_size: int
) -> SplitPredictions:
    """Run the network over a whole split, once, on a GPU if there is one.

    Args:
        network: In evaluation mode.
        split: The reviews.
        data: Says how much of a review is read.
        classes: Names of the classes, by id.
        batch_size: Reviews at a time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    batches = BatchLoader(split, batch_size=batch_size, max_length=data.max_length, truncate=data.truncate)
    indices, logits = [], []
    with torch.inference_mode():
        for batch in batches:
            indices.append(batch["indices"])
            logits.append(network(batch["token_ids"].to(device), batch["lengths"].to(device)).float().cpu())
    return SplitPredictions.of_rows(split, torch.cat(indices), torch.cat(logits), classes)
