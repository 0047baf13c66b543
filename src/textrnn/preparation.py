"""The verb `prepare`: makes what a run reads and stops, as on a login node whose compute nodes have no network."""

from textrnn.config import Config
from textrnn.data.store import cache_dir, prepare_store
from textrnn.logs import log_to_console


def prepare(config: Config) -> int:
    """Makes or finds the store of `config.data` and prints where it is; returns the exit code.

    Pretrained vectors that the model starts from are downloaded and read, too.

    Raises:
        InputError: if the reviews or vectors can't be read or the store can't be written.
    """
    log_to_console()
    if config.model.embedding.kind == "vectors":
        from textrnn.model.vectors.sources import open_vectors

        vectors = open_vectors(config.model.embedding, cache_dir(config.data))
        print(f"vectors: {len(vectors.words):,} words")
    store = prepare_store(config.data)
    for split, counts in store.meta["splits"].items():
        repeated = store.meta.get("repeated_reviews", {}).get(split)  # no count in stores from before it was taken
        also = f"; {repeated:,} are training reviews too" if repeated else ""
        print(f"{split}: {counts['reviews']:,} reviews, {counts['tokens']:,} tokens{also}")
    print(f"vocabulary: {store.vocab_size:,} tokens")
    print(f"token store: {store.path}")
    return 0
