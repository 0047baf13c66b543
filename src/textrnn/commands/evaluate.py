"""The command `evaluate`: metrics of the predictions of a trained run, or of several together, on a split of its data.

Modules with torch are imported after the command line is read; torchmetrics and matplotlib, which take as long again,
after the predictions.
"""

import argparse
import errno
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from textrnn.base.console import LOGGER, log_to_console, print_table
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path, write_atomically
from textrnn.base.process import import_torchmetrics, importing
from textrnn.config.schema import SPLITS, DataConfig
from textrnn.data.formats import COMPRESSED, READERS
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.hub_models import is_hub_model
from textrnn.tracking.wandb_artifacts import RUN_HELP, is_reference, local_run

if TYPE_CHECKING:
    from textrnn.data.review_file import Split
    from textrnn.evaluation.metrics import SplitPredictions
    from textrnn.training.checkpoints import Checkpoint


DESCRIPTION = """\
Measures a run on a split of its data, or on other data with labels: metrics
on the terminal, and a folder with metrics.json, predictions.csv,
mistakes.csv, evaluation.png, and the worst mistakes explained in
mistakes.html. Of several runs of the same data, the mean of their
probabilities, and each run's metrics in runs.csv."""
EXAMPLES = """\
examples:
  python evaluate.py runs/RUN
  python evaluate.py runs/RUN --split validation --mistakes 200
  python evaluate.py runs/RUN --data-path other.csv --text-column comment
  python evaluate.py wandb:PROJECT/MODEL:best --data-path reviews.csv
  python evaluate.py runs/seeds/0 runs/seeds/1 runs/seeds/2"""


OUTPUT_HELP = (
    "folder for the results (default: evaluation-SPLIT in the run, of several evaluation-SPLIT-ensemble here; of other "
    "data its name instead of SPLIT)"
)
PATH_HELP = (
    "where the run's data are now, if they moved, or other data with labels of the run's classes: a file without "
    "splits is measured whole, of a folder with splits the --split"
)
THRESHOLD_HELP = (
    "threshold for predict.py: f1 (that with the highest F1 on validation), precision=0.95 (with this precision on "
    "validation and the most recall) or a number; its figures are shown, and written to threshold.json"
)
OWN_DATA = {"data_path": None, "text_column": None, "label_column": None}
"""The arguments for the run's own data."""
EXPLAINED = 5
"""Mistakes in mistakes.html; one takes up to three seconds."""


def main(argv: Sequence[str]) -> int:
    """`python evaluate.py RUN [RUN ...] [--split test]`; returns the exit code.

    Raises:
        InputError: for a run, checkpoint or data that can't be read, or for several processes.
    """
    arguments = _parser().parse_args(list(argv))
    from textrnn.evaluation.threshold import check_classes, measured_threshold, read_rule, threshold_table

    refuse_ranks("evaluate.py")
    rule = None if arguments.threshold is None else read_rule(arguments.threshold)
    if rule is not None and len(arguments.runs) > 1:
        raise InputError("--threshold is for one run; name one.")
    if arguments.batch_size < 1 or arguments.mistakes < 0:
        raise InputError("--batch-size must be at least 1 and --mistakes at least 0.")
    if (arguments.text_column or arguments.label_column) and arguments.data_path is None:
        raise InputError("--text-column and --label-column are for other data; type --data-path FILE too.")
    if arguments.output is not None:
        _check_output(arguments.output)
    log_to_console()
    runs = [local_run(run) for run in arguments.runs]
    with importing():
        from textrnn.evaluation.ensemble import mean_predictions
        from textrnn.training.checkpoints import load_checkpoint
    checkpoints = [load_checkpoint(run) for run in runs]
    _check_same_data(checkpoints, arguments.split)
    together, first = len(runs) > 1, checkpoints[0]
    _check_output(arguments.output or default_output(arguments.runs, runs, arguments.split))
    if rule is not None:
        check_classes(len(first.classes), many_labels=first.config.data.many_labels())
    split, name, data = open_split(first, arguments.split, arguments)
    output = arguments.output or default_output(arguments.runs, runs, name)
    _check_output(output, is_own=data is None)
    members = [_predictions(checkpoint, split, arguments.batch_size) for checkpoint in checkpoints]
    predictions = mean_predictions(members) if together else members[0]
    thresholds = None
    if rule is not None:
        validation = predictions
        if name != "validation":
            own = arguments if data is None else argparse.Namespace(**vars(arguments) | OWN_DATA)
            validation = _predictions(first, open_split(first, "validation", own).split, arguments.batch_size)
        thresholds = measured_threshold(rule, validation, name, predictions)
    with importing():
        import_torchmetrics()
        from textrnn.evaluation.calibration import calibration_line
        from textrnn.evaluation.report import write_evaluation, write_members
        from textrnn.evaluation.shown import show, show_members
    try:
        write_evaluation(
            output,
            predictions,
            split=name,
            name=f"{len(runs)} runs" if together else first.identity.get("name", first.path.name),
            max_length=max(checkpoint.config.data.max_length for checkpoint in checkpoints),
            mistakes=arguments.mistakes,
            text=split.text,
            data=data,
        )
        if together:
            write_members(output, dict(zip(arguments.runs, members, strict=True)), split=name)
        else:
            _explain_mistakes(output, first, predictions, split, name, min(arguments.mistakes, EXPLAINED))
        if thresholds is not None:
            write_atomically(output / "threshold.json", json.dumps(thresholds, indent=2) + "\n")
    except OSError as error:
        raise _unwritable(output, error.strerror) from error
    if together:
        show_members(name, {**dict(zip(arguments.runs, members, strict=True)), "ensemble": predictions})
    title = f"the ensemble of {len(runs)} runs" if together else str(first.path)
    show(name, predictions, split, title)
    print(calibration_line(predictions))
    if thresholds is not None:
        print_table(threshold_table(thresholds))
    print(f"results: {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=f"{RUN_HELP}; several: an ensemble")
    parser.add_argument("--split", default="test", choices=SPLITS, help="which reviews (default: test)")
    parser.add_argument("--output", type=Path, help=OUTPUT_HELP)
    parser.add_argument("--data-path", metavar="PATH", help=PATH_HELP)
    for what in ("text", "label"):
        parser.add_argument(
            f"--{what}-column",
            metavar="NAME",
            action="append",
            help=f"with --data-path: its column of {what}s (default: the run's); typed again for several",
        )
    parser.add_argument("--cache-dir", help="where token stores are kept, if not where the run kept them")
    parser.add_argument("--batch-size", type=int, default=256, help="reviews at a time (default: 256)")
    parser.add_argument("--mistakes", type=int, default=50, help="most confident mistakes to write (default: 50)")
    parser.add_argument("--threshold", metavar="RULE", help=THRESHOLD_HELP)
    return parser


def _predictions(checkpoint: "Checkpoint", split: "Split", batch_size: int) -> "SplitPredictions":
    """Return a run's predictions.

    Raises:
        InputError: the run has diverged.
    """
    from textrnn.evaluation.predict_split import predict_split

    predictions = predict_split(
        checkpoint.classifier(), split, checkpoint.config.data, classes=checkpoint.classes, batch_size=batch_size
    )
    if predictions.has_diverged:
        raise checkpoint.diverged()
    predictions.temperature = checkpoint.temperature
    return predictions


def _explain_mistakes(
    output: Path, checkpoint: "Checkpoint", predictions: "SplitPredictions", split: "Split", name: str, most: int
) -> None:
    """Write `mistakes.html`, which says how much each word of the most confident mistakes counts.

    Raises:
        OSError: the folder can't be written.
    """
    from textrnn.reporting.explanation_page import Shown, mistakes_title, render_explanations
    from textrnn.sharing.trained_model import TrainedModel

    model = TrainedModel(checkpoint)
    shown = [
        Shown(explanation, ", ".join(predictions.true_names(place)))
        for place in predictions.mistakes(most)
        for explanation in model.explain([split.text(int(predictions.indices[place]))])
    ]
    title = mistakes_title(checkpoint.identity.get("name", checkpoint.path.name), name)
    write_atomically(output / "mistakes.html", render_explanations(title, shown))


def _check_same_data(checkpoints: "Sequence[Checkpoint]", split: str) -> None:
    """Refuse an ensemble of runs with other classes, another vocabulary or other reviews, or with a run twice.

    Raises:
        InputError: naming the run.
    """
    first, *others = checkpoints
    for number, other in enumerate(others, 1):
        if other.path.resolve() in [before.path.resolve() for before in checkpoints[:number]]:
            raise InputError(f"{other.path} is given twice; name each run once.")
        for what, differ in (
            ("classes", other.classes != first.classes),
            ("words", other.tokenizer_json != first.tokenizer_json),
            (f"{split} reviews", other.data["splits"][split] != first.data["splits"][split]),
        ):
            if differ:
                raise InputError(
                    f"{other.path}: its {what} are not those of {first.path}; an ensemble needs runs of the same data."
                )


def default_output(typed: Sequence[str], runs: Sequence[Path], name: str) -> Path:
    """Return the folder of results: in the run's directory, or for a fetched model or several runs here."""
    if len(runs) > 1:
        return Path(f"evaluation-{name}-ensemble")
    (run,) = runs
    if is_hub_model(typed[0]):
        return Path(f"evaluation-{name}-{typed[0].partition('/')[2].replace('@', '-').replace('/', '-')}")
    if is_reference(typed[0]):
        return Path(f"evaluation-{name}-{run.parent.name}")
    if not run.is_dir():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    return run / f"evaluation-{name}"


def _check_output(folder: Path, *, is_own: bool = True) -> None:
    """Refuse a folder that can't be made or written, or other data's in place of the run's own evaluation."""
    if not is_own and folder.name in [f"evaluation-{split}" for split in SPLITS]:
        raise InputError(f"--output {folder}: that name is for the run's own reviews; give another folder.")
    typed_path(folder, f"--output {folder}")
    nearest = next(there for there in (folder.absolute(), *folder.absolute().parents) if there.exists())
    if not nearest.is_dir():
        raise _unwritable(folder, f"{nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(folder, os.strerror(errno.EACCES))


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(f"--output {folder}: can't be written ({reason}); give another folder.")


class Opened(NamedTuple):
    """Reviews to measure."""

    split: "Split"
    name: str
    """The split's, or that of other data: the prefix of the metrics, and the end of the folder's name."""
    data: dict[str, Any] | None
    """Record of other data than the run's."""


def open_split(checkpoint: "Checkpoint", name: str, arguments: argparse.Namespace) -> Opened:
    """Open a split of the data that a checkpoint was trained on, which may have been moved, or other data.

    Args:
        checkpoint: The checkpoint.
        name: The split.
        arguments: Those of the command line: where the data and the token stores are, and the columns.

    Raises:
        InputError: for data that can't be read, or without `--data-path` are not the run's.
    """
    from textrnn.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint.tokenizer_json)  # refuses another version of spaCy, whose ids would differ
    data = replace(checkpoint.config.data, cache_dir=arguments.cache_dir or checkpoint.config.data.cache_dir)
    path = arguments.data_path
    try:
        # With segments the store has the only record of the reviews that the run validates on.
        if path is None or (data.segment_size is not None and name != "test"):
            return Opened(_own_split(checkpoint, replace(data, path=path or data.path), name, typed=path), name, None)
        from textrnn.data.measured import measured_split, split_content

        data = replace(data, path=path)
        for column in ("text_column", "label_column"):
            if typed := getattr(arguments, column):
                setattr(data, column, typed[0] if len(typed) == 1 else typed)
        own = checkpoint.data["splits"][name]
        found = measured_split(data, name, tokenizer=tokenizer, classes=checkpoint.classes, own=own)
    except InputError as error:
        raise InputError(_in_flags(str(error))) from error
    if found.is_own:
        return Opened(found.split, name, None)
    part = None if found.is_whole else name
    which = "reviews" if part is None else f"{part} reviews"
    LOGGER.info(f"--data-path {path}: its {which} are not the run's, so they are measured as other data")
    record = {"path": str(Path(path).expanduser().absolute()), "split": part, **split_content(found.split)}
    return Opened(found.split, data_name(path, part), record)


def _in_flags(message: str) -> str:
    """Return a message with the flags of this command for keys, which only train.py and prepare.py accept."""
    message = re.sub(r"""'data\.(text|label)_column="([^"]*)"'""", r"""--\1-column '\2'""", message)
    for key, flag in (("path", "data-path"), ("cache_dir", "cache-dir")):
        message = message.replace(f"data.{key}=", f"--{flag} ")
    for key in ("text", "label"):
        message = message.replace(f"data.{key}_column=", f"--{key}-column ")
    message = re.sub(r"type data\.encoding=\S+ or the encoding that it has, or save", "save", message)
    return message.replace(", but data.classes names ", ", and the run's classes are ").replace(
        ", or add the class", ""
    )


def data_name(path: str, split: str | None) -> str:
    """Return the name of other data: that of the file or folder, and the split if it has several.

    A name of a split has the folder's in front, so that it is never taken for the run's own.
    """
    place = Path(path).expanduser().absolute()
    stem = Path(place.name)
    while stem.suffix.lower() in (*READERS, *COMPRESSED):
        stem = Path(stem.stem)
    names = [str(stem)] if split is None else [str(stem), split]
    if len(names) == 1 and names[0].lower() in SPLITS:
        names.insert(0, place.parent.name or "other")
    return "-".join(re.sub(r"[^\w.]+", "-", name).strip("-.") or "data" for name in names)


def _own_split(checkpoint: "Checkpoint", data: DataConfig, name: str, *, typed: str | None) -> "Split":
    """Return a split from the run's token store; `typed` is a path that was typed for the data."""
    from textrnn.data.store import prepare_store, recorded_store

    store = recorded_store(data, checkpoint.data) if typed is None else prepare_store(data)
    for what, ours, theirs in (
        ("vocabulary", store.tokenizer_json, checkpoint.tokenizer_json),
        ("classes", store.classes, checkpoint.classes),
        (f"{name} reviews", store.differing(checkpoint.data, [name]), []),
    ):
        if ours != theirs:
            raise InputError(
                f"{store.path}: these are not the data that the run was trained on (other {what}); give the run's "
                "own, or other data to measure it on, with --data-path."
            )
    return store.split(name)
