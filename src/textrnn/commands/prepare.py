"""The command `prepare`: makes the token store that a run reads, as on a login node whose compute nodes are offline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.exits import DONE
from textrnn.config.compose import compose_jobs, parse_command_line, run_hydra
from textrnn.config.help import explain_groups, explain_keys
from textrnn.config.schema import UNLABELLED

if TYPE_CHECKING:
    from textrnn.data.store import Store

HELP = """\
usage: python prepare.py [GROUP=NAME ...] [KEY=VALUE ...]

Reads the reviews, encodes them once into a token store, and prints where it is.
A run with the same data finds it there and reads nothing else: prepare on a
login node what compute nodes without internet train on. Pretrained vectors are
downloaded too. Takes all that train.py takes, so that the words after train.py
can be typed here; the keys below are those that matter.

examples:
  python prepare.py
  python prepare.py data.path=reviews.csv data.tokenizer=bpe
  python prepare.py experiment=torch_rnn_glove data.cache_dir=/shared/stores

flags:
  -h, --help           this help, with the values that the other words give
  --cfg job            print the configuration as YAML and stop
  --version            print the version of textrnn
"""
NOT_READ = ("data.max_length", "data.truncate", "data.batch_size", "data.eval_batch_size", "model.embedding.trainable")
"""Keys in the sections of its help that only training reads."""


def main(argv: Sequence[str]) -> int:
    """`python prepare.py GROUP=NAME KEY=VALUE ...`: make or find the token store and print where it is.

    Pretrained vectors of the model are downloaded and read, too.

    Raises:
        InputError: if the reviews or vectors can't be read or the store can't be written.
    """
    command_line = parse_command_line(argv)
    if command_line.inspect:
        return run_hydra(command_line, "prepare.py")
    if command_line.multirun:
        raise InputError("prepare.py makes one token store; leave out -m.")
    (config,) = compose_jobs(command_line)
    if command_line.help:
        keys = explain_keys(config, ["data", "model.embedding"], leave_out=NOT_READ)
        print(HELP, explain_groups(["data"]), keys, sep="\n")
        return DONE
    from textrnn.data.store import cache_dir, prepare_store

    log_to_console()
    if config.model.embedding.kind == "vectors":
        from textrnn.data.vectors.sources import open_vectors

        vectors = open_vectors(config.model.embedding, cache_dir(config.data))
        print(f"vectors: {len(vectors.words):,} words")
    store = prepare_store(config.data)
    for split, counts in store.meta["splits"].items():
        repeated = store.meta.get("repeated_reviews", {}).get(split)  # none with segments
        also = f"; {repeated:,} are training reviews too" if repeated else ""
        if split == UNLABELLED:
            also = f"; {sum(store.meta['left_out'].values()):,} left out as validation or test reviews"
        print(f"{split}: {counts['reviews']:,} reviews, {counts['tokens']:,} tokens{also}")
    print(f"{_classes(store)}\nvocabulary: {store.vocab_size:,} tokens")
    print(f"token store: {store.path}")
    return 0


def _classes(store: "Store") -> str:
    """Return the line of the classes with their training reviews."""
    from textrnn.data.classes import classes_line

    labels = store.split("train").labels
    number = len(store.classes)
    counts = [int((labels == c).sum() if labels.ndim == 1 else labels[:, c].sum()) for c in range(number)]
    return classes_line([f"{name} {count:,}" for name, count in zip(store.classes, counts, strict=True)])
