"""A checkpoint measured on a split of its data."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from textrnn.checkpoints import Checkpoint
from textrnn.data.batches import BatchLoader
from textrnn.data.review_file import Split
from textrnn.data.store import prepare_store, recorded_store
from textrnn.data.tokenizer import load_tokenizer
from textrnn.errors import InputError
from textrnn.logs import LOGGER
from textrnn.tracking.measured import LABELS, Measured


def measure(checkpoint: Checkpoint, split: Split, *, batch_size: int) -> Measured:
    """Runs the model over a whole split, once.

    Raises:
        InputError: for a model that has diverged.
    """
    classifier = checkpoint.classifier()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device)
    data = checkpoint.config.data
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
            outputs = classifier(batch["token_ids"].to(device), batch["lengths"].to(device))
            logits[batch["indices"]] = found = outputs.float().cpu()
            if found.isnan().any():
                raise checkpoint.diverged()
    return Measured(
        logits=logits,
        labels=torch.from_numpy(split.labels.astype("int64")),
        lengths=torch.from_numpy(split.lengths.astype("int64")),
        indices=torch.arange(len(split)),
    )


def open_split(checkpoint: Checkpoint, name: str, path: str | None, cache_dir: str | None) -> Split:
    """A split of the data that a checkpoint was trained on, which may lie elsewhere by now.

    Args:
        checkpoint: The checkpoint.
        name: The split.
        path: Where the data lie; None: where its configuration says.
        cache_dir: Where token stores are kept; None: where its configuration says.

    Raises:
        InputError: for data that can't be read, or others than the run's; where `path` says it, the reviews of this
            split may be others, which is told.
    """
    load_tokenizer(checkpoint.tokenizer_json)  # with another spaCy, or none, the store would be another
    data = checkpoint.config.data
    data.path = path or data.path
    data.cache_dir = cache_dir or data.cache_dir
    try:
        store = recorded_store(data, checkpoint.data) if path is None else prepare_store(data)
    except InputError as error:
        # It speaks of keys, which only train.py and prepare.py take.
        told = str(error).replace("data.path=", "--data-path ").replace("data.cache_dir=", "--cache-dir ")
        raise InputError(told) from error
    if store.tokenizer_json != checkpoint.tokenizer_json:
        raise InputError(
            f"{store.path}: these are not the data that the run was trained on (their vocabulary differs); "
            "give the run's own data with --data-path."
        )
    if store.differing(checkpoint.data, [name]):
        if path is None:
            raise InputError(f"{store.path}: its {name} reviews are not the run's; give those with --data-path.")
        LOGGER.warning(f"--data-path {path}: its {name} reviews are not the run's")
    return store.split(name)


def show(name: str, measured: Measured, split: Split, path: Path) -> None:
    """Prints the metrics of the split `name`, and its three most confident mistakes."""
    console = Console()
    table = Table(title=Text(f"{path} on {name} ({len(split):,} reviews)", style="table.title"))
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in measured.metrics().items():
        table.add_row(f"{name}/{key}", f"{value:.4f}")
    console.print(table)
    for index in measured.mistakes(3):
        probability = float(measured.probabilities[index])
        label = LABELS[int(measured.labels[index])]
        excerpt = " ".join(split.text(index).split())[-160:]
        console.print(Text(f"{label}, called positive with {probability:.3f}: ...{excerpt}"))
