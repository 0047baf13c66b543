"""The token store: the reviews of a source, read and encoded once, then memory-mapped by every run that needs them.

A store is a folder named by the fingerprint of everything that determines its content. It is written under another name
and renamed when it is whole, under a lock: of many processes that need it, one makes it. Reviews are kept whole,
so `data.max_length`, `data.truncate` and the batch sizes have no influence.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.files import making, typed_path, user_cache
from textrnn.config.data_paths import typed_data
from textrnn.config.schema import ALL_SPLITS, SPLITS, UNLABELLED, DataConfig
from textrnn.data.duplicates import LEAVING_OUT
from textrnn.data.hub import HubSource, HubUnreachable
from textrnn.data.local_files import LocalSource
from textrnn.data.review_file import Split, file_summary
from textrnn.data.sources import Source
from textrnn.data.store_writer import make_store
from textrnn.data.synthetic import SyntheticSource
from textrnn.data.tokenizer import load_tokenizer, spacy_version, vocabulary

FORMAT = 3
"""Version of a store's files and rules; part of the fingerprint."""


class DamagedStoreError(Exception):
    """A store's folder does not match its `meta.json`."""


class Store:
    """An existing store; its files may be read until the process ends.

    Attributes:
        path: The folder.
        meta: Contents of `meta.json`: `fingerprint`, `key` (the fingerprinted values), `request` (the typed source of
            the reviews), `created` (UTC, ISO 8601), `splits` (`reviews` and `tokens` of each),
            `empty_reviews`, `repeated_reviews` (those of validation and test that are training reviews too; {} with
            segments), `classes` (names by class id), `files` (`bytes` and `crc32` of each), and with
            `data.unlabelled` `left_out` (the unlabelled reviews that are or nearly are held-out ones, by kind).
        fingerprint: Name of the folder.
        classes: The classes' names by class id, at least two.
        tokenizer_json: The tokenizer, for `load_tokenizer`.
        vocabulary: The tokens in the order of their ids.
        vocab_size: Number of tokens, `<pad>` and `<unk>` included.

    Raises:
        DamagedStoreError: a file is missing, unreadable or not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.meta: dict[str, Any] = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            for name, expected in self.meta["files"].items():
                if file_summary(path / name) != expected:
                    raise DamagedStoreError(f"{path / name} is not what was written")
            self.fingerprint = str(self.meta["fingerprint"])
            self.classes: tuple[str, ...] = tuple(self.meta["classes"])
            self.tokenizer_json = (path / "tokenizer.json").read_text(encoding="utf-8")
            self.vocabulary = vocabulary(load_tokenizer(self.tokenizer_json))
            names = ALL_SPLITS if UNLABELLED in self.meta["splits"] else SPLITS
            self._splits = {name: Split(path / f"{name}.arrow") for name in names}
            counts = {n: {"reviews": len(s), "tokens": int(s.lengths.sum())} for n, s in self._splits.items()}
            if counts != self.meta["splits"]:
                raise DamagedStoreError(f"{path} holds {counts} instead of {self.meta['splits']}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedStoreError(f"{path} cannot be read: {error}") from error
        self.vocab_size = len(self.vocabulary)

    @property
    def has_unlabelled(self) -> bool:
        """Whether there is a split "unlabelled": reviews without labels, of which none is a held-out one."""
        return UNLABELLED in self._splits

    def split(self, name: str) -> Split:
        """Return the reviews of "train", "validation", "test" or, if the store has them, "unlabelled"."""
        return self._splits[name]

    def record(self) -> dict[str, Any]:
        """Return the record of the data in a checkpoint.

        Its keys are `fingerprint`, `revision` (the Hub's commit or None), `classes` and `splits`.
        """
        return {
            "fingerprint": self.fingerprint,
            "revision": self.meta["key"]["source"].get("revision"),
            "classes": list(self.classes),
            "splits": {name: self._content(name) for name in self._splits},
        }

    def differing(self, record: dict[str, Any], names: Sequence[str] = SPLITS) -> list[str]:
        """Return the splits among `names` whose reviews differ from those of a `record`."""
        return [name for name in names if record["splits"][name] != self._content(name)]

    def _content(self, name: str) -> dict[str, int]:
        return {**self.meta["splits"][name], "crc32": self._splits[name].crc32()}


def cache_dir(data: DataConfig) -> Path:
    """Return the folder of the stores: `data.cache_dir`, else `user_cache()`.

    Raises:
        InputError: there is no home directory for it, or the path is invalid.
    """
    if data.cache_dir is None:
        return user_cache()
    return typed_path(data.cache_dir, f"data.cache_dir={data.cache_dir}").absolute()


def store_key(data: DataConfig, identity: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines a store: the source's `identity`, the tokenizer's settings, the format."""
    rules: dict[str, Any] = {"spacy": f"en {spacy_version()}"} if data.tokenizer == "spacy" else {}
    if data.unlabelled:
        rules |= {"unlabelled": LEAVING_OUT, "vocabulary_from": data.vocabulary_from}
    if data.many_labels():
        rules["labels_per_text"] = data.labels_per_text
    return rules | {
        "source": identity,
        "tokenizer": data.tokenizer,
        "vocab_size": data.vocab_size,
        "segment_size": data.segment_size,
        "classes": data.classes,
        "format": FORMAT,
    }


def fingerprint(key: dict[str, Any]) -> str:
    """Return 20 hexadecimal digits of the SHA-256 of a `store_key`."""
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def prepare_store(data: DataConfig, *, source: Source | None = None) -> Store:
    """Open the store for `data`, or read the source once and make it.

    Args:
        data: The data configuration: source and tokenizer.
        source: The source to read instead of `open_source(data)`.

    Raises:
        InputError: the source has no reviews for a split, the store cannot be written, or the Hub is out of reach and
            its data set is not stored here.
    """
    stores = cache_dir(data) / "stores"
    try:
        source = source or open_source(data)
        key = store_key(data, source.identity())
        return _open_or_make(stores / fingerprint(key), key, data, source)
    except HubUnreachable as error:
        return _stand_in(stores, data, error)


def recorded_store(data: DataConfig, record: dict[str, Any]) -> Store:
    """Return the store of an existing run: the one kept here, else a new one from the same commit of the Hub.

    The caller must check that it holds the same reviews (`Store.differing`).

    Args:
        data: The run's data configuration.
        record: The `Store.record` in its checkpoint.

    Raises:
        InputError: as `prepare_store`.
    """
    if data.segment_size is None:  # with segments the source is read again
        with contextlib.suppress(DamagedStoreError):
            store = Store(cache_dir(data) / "stores" / record["fingerprint"])
            if data.path is not None and _name(data) not in (None, store.fingerprint):
                LOGGER.info(
                    f"{typed_data(data.path)} has changed since the run began; the run's reviews are still stored here"
                )
            return store
    revision = record["revision"]
    return prepare_store(data if revision is None else replace(data, revision=revision))


def _name(data: DataConfig) -> str | None:
    """Return the name of the store for the present content of `data.path`; None if that can't be read any more."""
    try:
        return fingerprint(store_key(data, open_source(data).identity()))
    except (InputError, OSError):
        return None


def _open_or_make(path: Path, key: dict[str, Any], data: DataConfig, source: Source) -> Store:
    if path.exists():
        with contextlib.suppress(DamagedStoreError):
            return Store(path)
    with making(path, "makes the token store"):
        if path.exists():
            try:
                return Store(path)
            except DamagedStoreError as damage:
                LOGGER.warning(f"the token store is damaged and is made again: {damage}")
        make_store(path, data, source, {"fingerprint": path.name, "key": key, "request": _request(data)})
        return Store(path)


def _stand_in(stores: Path, data: DataConfig, unreachable: HubUnreachable) -> Store:
    """Return the newest store that was made by the same request while the Hub could be reached."""
    settings, request = store_key(data, {}), _request(data)
    found: list[tuple[str, Path]] = []
    for path in stores.glob("[!.]*/meta.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged store is skipped
            meta = json.loads(path.read_text(encoding="utf-8"))
            made_from = meta["key"]["source"]
            asked = dict(meta["request"])
            if made_from.get("revision") == data.revision:  # `data.revision` is a commit now and was a branch then
                asked["revision"] = data.revision
            if asked == request and meta["key"] | {"source": {}} == settings:
                found.append((meta["created"], path.parent))
    for created, path in sorted(found, reverse=True):
        with contextlib.suppress(DamagedStoreError):
            store = Store(path)
            revision = store.meta["key"]["source"].get("revision")
            LOGGER.warning(
                f"the Hub is out of reach ({unreachable}): using {data.repo} at {revision} as stored on {created[:10]}"
            )
            return store
    raise InputError(
        f"the Hub is out of reach ({unreachable}) and {data.repo} is not stored here; type data.path=FOLDER with "
        "reviews on this machine, or data=synthetic for generated ones"
    ) from unreachable


def _request(data: DataConfig) -> dict[str, Any]:
    """Return the source of the reviews, as typed."""
    names = ("source", "path", "delimiter", "encoding", "repo", "revision", "config", "text_column", "label_column")
    splits = asdict(data.splits)
    if not data.unlabelled:
        del splits[UNLABELLED]
    return {**{name: getattr(data, name) for name in names}, "splits": splits}


def open_source(data: DataConfig) -> Source:
    """Return the source for `data`, after local checks only: nothing is read and no server is queried.

    Raises:
        InputError: `data.path` is missing, has no usable files, or mixes formats.
    """
    if data.path is not None:
        return LocalSource(data)
    if data.source == "synthetic":
        return SyntheticSource(data)
    return HubSource(data)
