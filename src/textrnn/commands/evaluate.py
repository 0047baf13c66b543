"""The command `evaluate`: metrics of a trained run's predictions on a split of its data.

Modules with torch are imported after the command line is read; torchmetrics and matplotlib, which take as long again,
after the predictions.
"""

import argparse
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import LOGGER, log_to_console, print_table
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.base.process import import_torchmetrics, importing
from textrnn.config.schema import SPLITS
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.wandb_artifacts import RUN_HELP, is_reference, local_run

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from textrnn.data.review_file import Split
    from textrnn.evaluation.metrics import SplitPredictions
    from textrnn.training.checkpoints import Checkpoint


DESCRIPTION = """\
Measures a run on a split of its data: metrics on the terminal, and a folder
with metrics.json, predictions.csv, mistakes.csv and evaluation.png."""
EXAMPLES = """\
examples:
  python evaluate.py runs/RUN
  python evaluate.py runs/RUN --split validation --mistakes 200
  python evaluate.py wandb:PROJECT/MODEL:best --data-path reviews.csv"""


CLASSES, FEWEST = 20, 10
"""Classes up to which the table has all of them; of more it has the worst ten."""


def main(argv: Sequence[str]) -> int:
    """`python evaluate.py RUN [--split test]`; returns the exit code.

    Raises:
        InputError: for a run, checkpoint or data that can't be read, or for several processes.
    """
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--split", default="test", choices=SPLITS, help="which reviews (default: test)")
    parser.add_argument("--output", type=Path, help="folder for the results (default: evaluation-SPLIT in the run)")
    parser.add_argument("--data-path", help="where the run's data lie now, if they moved")
    parser.add_argument("--cache-dir", help="where token stores are kept, if not where the run kept them")
    parser.add_argument("--batch-size", type=int, default=256, help="reviews at a time (default: 256)")
    parser.add_argument("--mistakes", type=int, default=50, help="most confident mistakes to write (default: 50)")
    arguments = parser.parse_args(list(argv))
    refuse_ranks("evaluate.py")
    if arguments.batch_size < 1 or arguments.mistakes < 0:
        raise InputError("--batch-size must be at least 1 and --mistakes at least 0.")
    if arguments.output is not None:
        _check_output(arguments.output)
    log_to_console()
    run = local_run(arguments.run)
    with importing():
        from textrnn.evaluation.metrics import predict_split
        from textrnn.training.checkpoints import load_checkpoint
    checkpoint = load_checkpoint(run)
    output = arguments.output or default_output(arguments.run, run, arguments.split)
    _check_output(output)
    split = open_split(checkpoint, arguments.split, arguments.data_path, arguments.cache_dir)
    predictions = predict_split(
        checkpoint.classifier(),
        split,
        checkpoint.config.data,
        classes=checkpoint.classes,
        batch_size=arguments.batch_size,
    )
    if predictions.has_diverged:
        raise checkpoint.diverged()
    with importing():
        import_torchmetrics()
        from textrnn.evaluation.report import write_evaluation
    try:
        write_evaluation(
            output,
            predictions,
            split=arguments.split,
            name=checkpoint.identity.get("name", checkpoint.path.name),
            max_length=checkpoint.config.data.max_length,
            mistakes=arguments.mistakes,
            text=split.text,
        )
    except OSError as error:
        raise _unwritable(output, error.strerror) from error
    show(arguments.split, predictions, split, checkpoint.path)
    print(f"results: {output}")
    return 0


def default_output(typed: str, run: Path, split: str) -> Path:
    """Return the folder of results: in the run's directory or, for a model from W&B, in the working directory."""
    if is_reference(typed):
        return Path(f"evaluation-{split}-{run.parent.name}")
    if not run.is_dir():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    return run / f"evaluation-{split}"


def _check_output(folder: Path) -> None:
    """Refuse a folder that can't be made or written, before anything is measured."""
    typed_path(folder, f"--output {folder}")
    nearest = next(there for there in (folder.absolute(), *folder.absolute().parents) if there.exists())
    if not nearest.is_dir():
        raise _unwritable(folder, f"{nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(folder, os.strerror(errno.EACCES))


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(f"--output {folder}: can't be written ({reason}); give another folder.")


def open_split(checkpoint: "Checkpoint", name: str, path: str | None, cache_dir: str | None) -> "Split":
    """Open a split of the data that a checkpoint was trained on, which may have been moved.

    Args:
        checkpoint: The checkpoint.
        name: The split.
        path: Path of the data; None: that of the checkpoint's configuration.
        cache_dir: Folder of the token stores; None: that of the checkpoint's configuration.

    Raises:
        InputError: for data that can't be read or are not the run's; with `path`, other reviews of this split only
            cause a warning.
    """
    from textrnn.data.store import prepare_store, recorded_store
    from textrnn.data.tokenizer import load_tokenizer

    load_tokenizer(checkpoint.tokenizer_json)  # with another version of spaCy, or none, the store would differ
    data = checkpoint.config.data
    data.path = path or data.path
    data.cache_dir = cache_dir or data.cache_dir
    try:
        store = recorded_store(data, checkpoint.data) if path is None else prepare_store(data)
    except InputError as error:
        # The message has keys, which only train.py and prepare.py accept.
        message = str(error).replace("data.path=", "--data-path ").replace("data.cache_dir=", "--cache-dir ")
        raise InputError(message) from error
    if store.tokenizer_json != checkpoint.tokenizer_json:
        raise InputError(
            f"{store.path}: these are not the data that the run was trained on (their vocabulary differs); "
            "give the run's own data with --data-path."
        )
    if store.classes != checkpoint.classes:
        raise InputError(
            f"{store.path}: its classes are {', '.join(store.classes)}, and the run's {', '.join(checkpoint.classes)}; "
            "give the run's own data with --data-path."
        )
    if store.differing(checkpoint.data, [name]):
        if path is None:
            raise InputError(f"{store.path}: its {name} reviews are not the run's; give those with --data-path.")
        LOGGER.warning(f"--data-path {path}: its {name} reviews are not the run's")
    return store.split(name)


def show(name: str, predictions: "SplitPredictions", split: "Split", path: Path) -> None:
    """Print the metrics of the split `name`, of each class if there are more than two, and three confident mistakes."""
    from rich.table import Table
    from rich.text import Text

    print(f"{path} on {name} ({len(split):,} reviews)\n")
    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    for key, value in predictions.metrics().items():
        table.add_row(f"{name}/{key}", f"{value:.4f}")
    print_table(table)
    if len(predictions.classes) > 2:
        print_table(_by_class(predictions))
    worst = Table(title="most confident mistakes", title_justify="left", show_edge=False)
    for column in ("label", "predicted", "probability"):
        worst.add_column(column, justify="right" if column == "probability" else "left", no_wrap=True)
    worst.add_column("end of the text")
    for place in predictions.mistakes(3):
        label, predicted = int(predictions.labels[place]), int(predictions.predicted[place])
        names = (_cell(predictions.classes[number]) for number in (label, predicted))
        words = split.text(int(predictions.indices[place])).split()
        excerpt = " ".join(["...", *words[-20:]] if len(words) > 20 else words)
        worst.add_row(*names, f"{predictions.confidences[place]:.4f}", Text(excerpt))
    if worst.row_count:
        print_table(worst)


def _by_class(predictions: "SplitPredictions") -> "Table":
    """Return the figures of each class, or of the ten that are lowest in F1 where there are many."""
    from rich.table import Table

    figures = predictions.by_class()
    table = Table(title_justify="left", show_edge=False)
    if len(figures) > CLASSES:
        table.title = f"the {FEWEST} of {len(figures):,} classes that are lowest in F1"
        figures = sorted(figures, key=lambda of: of.f1)[:FEWEST]
    table.add_column("class", no_wrap=True)
    for column in ("reviews", "accuracy", "precision", "f1"):
        table.add_column(column, justify="right", no_wrap=True)
    for of in figures:
        table.add_row(_cell(of.name), f"{of.reviews:,}", f"{of.accuracy:.4f}", f"{of.precision:.4f}", f"{of.f1:.4f}")
    return table


def _cell(name: str) -> "Text":
    """Return a class's name as plain text of at most 24 characters, without a line break."""
    from rich.text import Text

    shown = " ".join(name.split())
    return Text(shown if len(shown) <= 24 else f"{shown[:23]}…")
