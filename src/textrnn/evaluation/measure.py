"""A network's predictions of a whole split."""

import torch

from textrnn.config.schema import DataConfig
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from textrnn.evaluation.metrics import Measured
from textrnn.model.network import TextClassifier


def measure(network: TextClassifier, split: Split, data: DataConfig, *, batch_size: int) -> Measured:
    """Run the network over a whole split, once, on a GPU if there is one.

    Args:
        network: In evaluation mode.
        split: The reviews.
        data: Says how much of a review is read.
        batch_size: Reviews at a time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    loader = BatchLoader(
        split,
        batch_size=batch_size,
        seed=0,
        epoch=lambda: 0,
        shuffle=False,
        max_length=data.max_length,
        truncate=data.truncate,
    )
    logits = torch.empty(len(split))
    with torch.inference_mode():
        for batch in loader:
            outputs = network(batch["token_ids"].to(device), batch["lengths"].to(device))
            logits[batch["indices"]] = outputs.float().cpu()
    return Measured(
        logits=logits,
        labels=torch.from_numpy(split.labels.astype("int64")),
        lengths=torch.from_numpy(split.lengths.astype("int64")),
        indices=torch.arange(len(split)),
    )
