"""The command `predict`: labels texts with a trained run.

Imports torch, and nothing that only training needs, once the command line is read: an answer takes little longer than
that import.
"""

import argparse
import codecs
import contextlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.base.process import importing
from textrnn.config.schema import DataConfig
from textrnn.data.formats import COMPRESSED, OTHER_FORMATS, reader_of
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.wandb_artifacts import RUN_HELP, local_run

if TYPE_CHECKING:
    from textrnn.training.checkpoints import Checkpoint

BATCH_SIZE = 64
DESCRIPTION = """\
Labels texts with a run. Prints a JSON line for each text:
{"text": ..., "label": "positive",
 "probabilities": {"negative": 0.08, "positive": 0.92}}"""
EXAMPLES = """\
examples:
  python predict.py runs/RUN "A fine film." "I wanted to like it."
  python predict.py runs/RUN --file reviews.txt > labels.jsonl
  python predict.py wandb:PROJECT/MODEL:best --file - < reviews.txt
  python predict.py https://wandb.ai/ENTITY/PROJECT/runs/ID "A fine film.\""""


def main(argv: Sequence[str]) -> int:
    """`python predict.py RUN "text" ...`; returns the exit code.

    Prints a JSON line a text: `text`, `label` (the most probable class's name) and `probabilities` (by name). Empty
    texts are labeled too, with a warning on stderr.

    Raises:
        InputError: for a run, checkpoint or file that can't be read, or for several processes.
    """
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
    arguments = parser.parse_args(list(argv))
    refuse_ranks("predict.py")
    if bool(arguments.texts) == (arguments.file is not None):
        raise InputError('give texts, or --file FILE, such as: python predict.py RUN "A fine film."')
    if arguments.text_column is not None and (arguments.file is None or not _is_table(arguments.file[-1])):
        raise InputError("--text-column is for a table; type --file FILE.csv, .tsv, .jsonl or .parquet too.")
    for number, text in enumerate(arguments.texts, 1):
        if not _is_unicode(text):
            raise InputError(f"text {number} is not UTF-8; save it as UTF-8 in a file and type --file FILE.")
    if arguments.file is None:
        _label(arguments.run, lambda _: arguments.texts)
    else:
        if len(arguments.file) > 1:
            raise InputError(f"--file is given {len(arguments.file)} times; label one file at a time.")
        (name,) = arguments.file
        with _opened(name) as file:  # before a model is fetched
            if _is_table(name):
                _label(arguments.run, lambda data: _table_texts(name, arguments.text_column, data.text_columns()))
            else:
                _label(arguments.run, lambda _: _lines(file, name))
    return 0


def _is_table(name: str) -> bool:
    return name != "-" and reader_of(Path(name)) is not None


def _table_texts(name: str, typed: Sequence[str] | None, trained: Sequence[str]) -> Iterator[str]:
    from textrnn.data.text_table import read_texts_of, text_columns

    columns = text_columns(name, typed, trained)
    if columns != [*(typed or trained)]:
        print(f"columns: {', '.join(columns)}", file=sys.stderr)
    return read_texts_of(name, columns)


def _label(typed: str, texts_for: Callable[[DataConfig], Iterable[str]]) -> None:
    """Print a line for each text, by the run that was typed; `texts_for` gets the configuration of the run's data."""
    run = local_run(typed)
    with importing():
        from textrnn.training.checkpoints import load_checkpoint
    checkpoint = load_checkpoint(run)
    escapes = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"  # what can't take all texts
    empty = []
    for number, (text, probabilities) in enumerate(predict(checkpoint, texts_for(checkpoint.config.data)), 1):
        if not all(map(math.isfinite, probabilities.values())):
            raise checkpoint.diverged()
        if not text.strip():
            empty.append(number)
        label = max(probabilities, key=lambda name: probabilities[name])
        rounded = {name: round(probability, 6) for name, probability in probabilities.items()}
        line = {"text": text, "label": label, "probabilities": rounded}
        print(json.dumps(line, ensure_ascii=escapes))
    if empty:
        which = f"text {empty[0]}" if len(empty) == 1 else f"{len(empty):,} texts, the first of them text {empty[0]},"
        print(f"warning: {which} {'is' if len(empty) == 1 else 'are'} empty: such labels mean nothing", file=sys.stderr)


def predict(checkpoint: "Checkpoint", texts: Iterable[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each text with the probabilities of the classes by name, a batch at a time."""
    import torch

    from textrnn.data.tokenizer import encode_batch, load_tokenizer
    from textrnn.model.network import class_probabilities

    classifier = checkpoint.classifier()
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    data = checkpoint.config.data
    stream = iter(texts)
    while batch := list(islice(stream, BATCH_SIZE)):
        encoded = [
            ids[: data.max_length] if data.truncate == "head" else ids[-data.max_length :]
            for ids in encode_batch(tokenizer, batch)
        ]
        lengths = torch.tensor([len(ids) for ids in encoded])
        token_ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, ids in enumerate(encoded):
            token_ids[row, : len(ids)] = torch.as_tensor(ids)
        with torch.inference_mode():
            probabilities = class_probabilities(classifier(token_ids, lengths)).tolist()
        for text, row in zip(batch, probabilities, strict=True):
            yield text, dict(zip(checkpoint.classes, row, strict=True))


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
