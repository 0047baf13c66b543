"""The command `predict`: labels texts with a trained run.

Imports torch, and nothing that only training needs, once the command line is read: an answer takes little longer than
that import.
"""

import argparse
import codecs
import contextlib
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from textrnn.base.console import duration, log_to_console
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.base.process import importing
from textrnn.data.formats import COMPRESSED, OTHER_FORMATS, reader_of
from textrnn.data.table_writer import check_output
from textrnn.data.text_table import WholeTable, read_texts_of, table_of_texts, text_columns, whole_table
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.wandb_artifacts import RUN_HELP, local_run

if TYPE_CHECKING:
    from textrnn.sharing.trained_model import TrainedModel

DESCRIPTION = """\
Labels texts with a run. Prints a JSON line for each text:
{"text": ..., "label": "positive",
 "probabilities": {"negative": 0.08, "positive": 0.92}}
With data.labels_per_text=many the key is "labels": all with a probability
above 0.5 or --threshold. With --output OUT it writes a table instead: the
columns of FILE, label (or labels) and its probability."""
EXAMPLES = """\
examples:
  python predict.py runs/RUN "A fine film." "I wanted to like it."
  python predict.py runs/RUN --file reviews.csv --output labeled.csv
  python predict.py runs/RUN --file reviews.txt > labels.jsonl
  python predict.py wandb:PROJECT/MODEL:best --file - < reviews.txt
  python predict.py https://wandb.ai/ENTITY/PROJECT/runs/ID "A fine film."
  python predict.py hub:OWNER/NAME "A fine film.\""""
OUTPUT_HELP = (
    "a new table, .csv, .tsv, .jsonl or .parquet: all columns of FILE, and label and probability; they are called "
    "predicted_label and predicted_probability where FILE has one of them"
)


def main(argv: Sequence[str]) -> int:
    """`python predict.py RUN "text" ...`; returns the exit code.

    Prints a JSON line a text: `text`, `label` (the most probable class's name) or, with several labels a text,
    `labels` (the names of all with a probability above 0.5 or the threshold), and `probabilities` (by name). With
    `--output` it writes a table. Empty texts are labeled too, with a warning on stderr.

    Raises:
        InputError: for a run, checkpoint or file that can't be read, a table that can't be written, or for several
            processes.
    """
    arguments = _parser().parse_intermixed_args(list(argv))
    refuse_ranks("predict.py")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise InputError(f"--threshold {arguments.threshold}: type a number between 0 and 1.")
    if bool(arguments.texts) == (arguments.file is not None):
        raise InputError('give texts, or --file FILE, such as: python predict.py RUN "A fine film."')
    if arguments.text_column is not None and (arguments.file is None or not _is_table(arguments.file[-1])):
        raise InputError("--text-column is for a table; type --file FILE.csv, .tsv, .jsonl or .parquet too.")
    if arguments.probabilities and arguments.output is None:
        raise InputError("--probabilities is for a table; type --output OUT.csv, .tsv, .jsonl or .parquet too.")
    for number, text in enumerate(arguments.texts, 1):
        if not _is_unicode(text):
            raise InputError(f"text {number} is not UTF-8; save it as UTF-8 in a file and type --file FILE.")
    if arguments.file is not None and len(arguments.file) > 1:
        raise InputError(f"--file is given {len(arguments.file)} times; label one file at a time.")
    name: str = "" if arguments.file is None else arguments.file[0]
    with _opened(name) if name else contextlib.nullcontext() as file:  # before a model is fetched
        output = None if arguments.output is None else check_output(arguments.output, name)
        model = _loaded(arguments.run, arguments.threshold, on_gpu=bool(name))
        columns = _text_columns(name, arguments.text_column, model) if _is_table(name) else []
        if columns and output is not None:
            _write(model, whole_table(name, columns), output, each_class=arguments.probabilities)
            return 0
        texts = read_texts_of(name, columns) if columns else arguments.texts if file is None else _lines(file, name)
        if output is not None:
            _write(model, table_of_texts(texts), output, each_class=arguments.probabilities)
        else:
            _print(model, texts)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="reviews to label")
    parser.add_argument(
        "--file",
        metavar="FILE",
        action="append",
        help="a file with one review a line, or a table (csv, tsv, json, jsonl, parquet, arrow); - for lines of "
        "standard input",
    )
    parser.add_argument(
        "--text-column",
        metavar="NAME",
        action="append",
        help="a table's column of reviews (default: the run's); typed again, the texts of both are joined",
    )
    parser.add_argument("--output", metavar="OUT", help=OUTPUT_HELP)
    parser.add_argument(
        "--probabilities", action="store_true", help="with --output: also a column probability_NAME for each class"
    )
    parser.add_argument(
        "--threshold",
        metavar="P",
        type=float,
        help="probability above which a text has the second of two classes, or each of several labels (default: 0.5)",
    )
    return parser


def _is_table(name: str) -> bool:
    return name != "-" and reader_of(Path(name)) is not None


def _loaded(typed: str, threshold: float | None, *, on_gpu: bool) -> "TrainedModel":
    """Return the run that was typed; with `on_gpu` on a GPU if there is one, which takes seconds to start."""
    run = local_run(typed)
    with importing():
        import torch

        from textrnn.sharing.trained_model import TrainedModel
        from textrnn.training.checkpoints import load_checkpoint
    model = TrainedModel(load_checkpoint(run), threshold=threshold)
    return model.to("cuda") if on_gpu and torch.cuda.is_available() else model


def _text_columns(name: str, typed: Sequence[str] | None, model: "TrainedModel") -> list[str]:
    trained = model.data.text_columns()
    columns = text_columns(name, typed, trained)
    if columns != [*(typed or trained)]:
        print(f"columns: {', '.join(columns)}", file=sys.stderr)
    return columns


def _write(model: "TrainedModel", table: WholeTable, output: Path, *, each_class: bool) -> None:
    from textrnn.sharing.labeling import label_table

    log_to_console()
    began = time.monotonic()
    done = label_table(model, table, output, each_class=each_class)
    seconds = time.monotonic() - began
    _warn_of(done.empty)
    print(f"labeled: {output} ({done.texts:,} texts in {duration(seconds)}, {done.texts / seconds:,.0f} per second)")


def _print(model: "TrainedModel", texts: Iterable[str]) -> None:
    """Print a line for each text."""
    escapes = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"  # what can't take all texts
    empty = []
    for number, prediction in enumerate(model.predict_each(texts), 1):
        if not prediction.text.strip():
            empty.append(number)
        line: dict[str, Any] = {"text": prediction.text}
        if model.many_labels:
            line["labels"] = list(prediction.labels)
        else:
            line["label"] = prediction.label
        line["probabilities"] = {name: round(value, 6) for name, value in prediction.probabilities.items()}
        print(json.dumps(line, ensure_ascii=escapes))
    _warn_of(empty)


def _warn_of(empty: Sequence[int]) -> None:
    if empty:
        which = f"text {empty[0]}" if len(empty) == 1 else f"{len(empty):,} texts, the first of them text {empty[0]},"
        print(f"warning: {which} {'is' if len(empty) == 1 else 'are'} empty: such labels mean nothing", file=sys.stderr)


def _is_unicode(text: str) -> bool:
    """Return whether a text's bytes were UTF-8; Python keeps other bytes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """Open FILE as UTF-8 in any locale, without a byte order mark; invalid bytes are read as lone surrogates."""
    if name == "-":
        if sys.stdin is None:
            raise InputError("--file -: standard input is closed; type the name of a text file.")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline=None)
        yield sys.stdin
        return
    path = typed_path(name, f"--file {name}")
    if path.suffix.lower() in (*COMPRESSED, *OTHER_FORMATS) and not _is_table(name):
        raise InputError(
            f"--file {name}: {path.suffix} is not read; save it as text with one review a line, csv, jsonl or parquet."
        )
    try:
        file = path.open(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"--file {name}: can't be read ({error.strerror}); type the name of a text file.") from error
    with file:
        yield file


def _lines(file: TextIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not _is_unicode(line):
            raise InputError(f"--file {name}: line {number} is not UTF-8 text; save the file as UTF-8.")
        yield line.rstrip("\n")
