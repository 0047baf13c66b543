"""The command `vectors`: word vectors of the data's own training and unlabelled reviews."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.exits import DONE
from textrnn.base.files import disk_errors, typed_path, write_atomically
from textrnn.config.checks import words_file
from textrnn.config.compose import compose_jobs, parse_command_line

DESCRIPTION = """\
Learns word vectors from the training reviews, and from the unlabelled ones with
data.unlabelled=true: skip-gram with negative sampling. Writes NAME.npy and
NAME.txt, which model.embedding.vectors=NAME.npy reads. No validation or test
review is read."""
EXAMPLES = """\
examples:
  textrnn vectors imdb.npy data.unlabelled=true
  textrnn vectors imdb.npy --size 200 --epochs 5 data.vocab_size=50000
  textrnn vectors own.npy data.path=reviews.csv
  textrnn train model.embedding.kind=vectors model.embedding.vectors=own.npy"""


def main(argv: Sequence[str]) -> int:
    """`textrnn vectors NAME.npy [KEY=VALUE ...]`: learn vectors and write them; return the exit code.

    Raises:
        InputError: an argument is wrong, the reviews can't be read or the files can't be written.
    """
    parser = argparse.ArgumentParser(
        prog="textrnn vectors",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="NAME.npy", help="file to write, with the words in NAME.txt")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="the data, as of train")
    parser.add_argument("--size", type=int, default=100, help="components of a vector (default: 100)")
    parser.add_argument("--window", type=int, default=5, help="distance of words that count as near (default: 5)")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the reviews (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    arguments = parser.parse_intermixed_args(list(argv))
    if min(arguments.size, arguments.window, arguments.epochs) < 1 or arguments.seed < 0:
        raise InputError("--size, --window and --epochs must be at least 1, and --seed at least 0.")
    output = _output(arguments.output)
    command_line = parse_command_line(arguments.overrides)
    (config,) = compose_jobs(command_line)
    if config.data.segment_size is not None:
        raise InputError("textrnn vectors reads the whole token store; leave out data.segment_size.")
    log_to_console()
    from textrnn.config.schema import UNK_ID, UNLABELLED
    from textrnn.data.store import prepare_store
    from textrnn.data.vectors.skip_gram import SkipGram, train_vectors

    store = prepare_store(config.data)
    names = ("train", UNLABELLED) if store.has_unlabelled else ("train",)
    settings = SkipGram(size=arguments.size, window=arguments.window, epochs=arguments.epochs, seed=arguments.seed)
    vectors = train_vectors([store.split(name) for name in names], store.vocab_size, settings)
    _write(output, store.vocabulary[UNK_ID + 1 :], vectors[UNK_ID + 1 :])
    print(f"vectors: {store.vocab_size - UNK_ID - 1:,} words of {arguments.size} numbers in {output}")
    print(
        f"read them: textrnn train model.embedding.kind=vectors model.embedding.vectors={output} "
        f"model.embedding.size={arguments.size}"
    )
    return DONE


def _output(typed: str) -> Path:
    path = typed_path(typed, typed)
    if path.suffix != ".npy":
        raise InputError(f"{typed}: vectors are written as NAME.npy; type for example vectors.npy.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{typed}: there is no folder {path.absolute().parent}; make it, or type another name.")
    for file in (path, words_file(path)):
        if file.exists():
            raise InputError(f"{file} exists already; type another name, or remove it.")
    return path


def _write(path: Path, words: Sequence[str], vectors: object) -> None:
    """Write the words, then the array, so that an array is never without its words."""
    import numpy as np

    array = io.BytesIO()
    np.save(array, np.asarray(vectors))
    with disk_errors(path.absolute().parent):
        write_atomically(words_file(path), "".join(f"{word}\n" for word in words))
        write_atomically(path, array.getvalue())
