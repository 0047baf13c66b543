"""The verb `prepare`: makes the token store and stops, as on a login node whose compute nodes have no network."""

from textrnn.config import Config
from textrnn.data.store import prepare_store
from textrnn.logs import log_to_console


def prepare(config: Config) -> int:
    """Makes or finds the store of `config.data` and prints where it is; returns the exit code.

    Raises:
        InputError: if the reviews can't be read or the store can't be written.
    """
    log_to_console()
    store = prepare_store(config.data)
    for split, counts in store.meta["splits"].items():
        print(f"{split}: {counts['reviews']:,} reviews, {counts['tokens']:,} tokens")
    print(f"vocabulary: {store.vocab_size:,} tokens")
    print(f"token store: {store.path}")
    return 0
