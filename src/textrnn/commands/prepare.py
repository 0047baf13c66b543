"""The command `prepare`: makes the token store that a run reads, as on a login node whose compute nodes are offline."""

from collections.abc import Sequence

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.config.compose import compose_jobs, parse_command_line, run_hydra


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
        print(f"{split}: {counts['reviews']:,} reviews, {counts['tokens']:,} tokens{also}")
    print(f"vocabulary: {store.vocab_size:,} tokens")
    print(f"token store: {store.path}")
    return 0
