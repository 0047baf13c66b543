"""Reviews from the Hugging Face Hub (`data.repo`)."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.network import network_errors, reason_of
from textrnn.base.process import in_time
from textrnn.config.schema import UNLABELLED, DataConfig
from textrnn.data.classes import LOOKED_AT, NotClasses, columns_like_classes
from textrnn.data.columns import check_columns, column_identity, find_columns
from textrnn.data.formats import is_data
from textrnn.data.huggingface import (
    columns_of,
    import_datasets,
    is_hidden,
    silence_libraries,
    stream_examples,
    use_buffered_reads,
)
from textrnn.data.sources import HASHED_SHARE, Examples, Part, Row, expected_rows, split_shares, stream_rows
from textrnn.data.split_files import choose_splits
from textrnn.data.split_names import is_unlabelled, listed, named_splits, refuse_glued_names

_CONFIGS = re.compile(r"(?:available configs|Available): \[(.*)\]")
_PUNCTUATION = re.compile(r"['\"]")

PROBE_SECONDS = 5.0
"""Longest time that the question for the current commit may take."""


class HubUnreachable(Exception):  # noqa: N818 - a state of the network, not a mistake
    """The Hub doesn't answer, or stopped answering; the message has the failed request in one sentence."""


class HubSource:
    """A data set on the Hub, streamed from the commit that `data.revision` names at the start."""

    def __init__(self, data: DataConfig) -> None:
        self.name = f"{data.repo}@{data.revision}"
        self._data = data
        self._origin = f"data.repo={data.repo}"
        self._sha: str | None = None
        self._names: list[str] = []  # of the repository's files
        self._loaded: dict[str, Any] | None = None
        self._columns_of: dict[str, list[str]] = {}

    def identity(self) -> dict[str, str | int | float | None]:
        """Return repository, commit and columns, and the config and splits that are typed.

        Raises:
            HubUnreachable: the Hub didn't answer within `PROBE_SECONDS`, or the client is set to offline.
            InputError: the Hub has no such repository or revision.
        """
        data = self._data
        typed = {"config": data.config, **{f"split {ours}": name for ours, name in asdict(data.splits).items()}}
        return {
            "kind": "hub",
            "repo": data.repo,
            "revision": self._commit(),
            **column_identity(data),
            "hashed_share": HASHED_SHARE,
            **{key: value for key, value in typed.items() if value is not None},
        }

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have, from the data set's card; None if it has no numbers."""
        return expected_rows(split_shares(self._splits()), splits, self._count)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One pass over the Hub's splits that `splits` need; see `Source.rows`.

        Raises HubUnreachable when the connection breaks, besides.
        """
        shares = split_shares(self._splits())
        first = next((held for held, destinations in shares.items() if {*destinations} & {*splits}), "train")
        data = find_columns(self._columns(first), self._origin, self._data)
        try:
            yield from stream_rows(self._origin, shares, lambda held: self._parts(held, interleave, data), splits, data)
        except NotClasses as error:
            raise error.naming(self._columns_like_classes(data)) from error

    def _columns_like_classes(self, data: DataConfig) -> list[str]:
        try:
            return columns_like_classes(self._splits()["train"].take(LOOKED_AT), data)
        except network_errors() as error:
            raise HubUnreachable(f"{self.name} cannot be opened: {reason_of(error)}") from error

    def _commit(self) -> str:
        """Return the commit's SHA, which is queried once."""
        if self._sha is None:
            self._sha = self._probe()
        return self._sha

    def _probe(self) -> str:
        for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
                raise HubUnreachable(f"{variable}={os.environ[variable]} is set")
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        silence_libraries()
        data = self._data
        absent = InputError(
            f"{self._origin}: the Hub at {constants.ENDPOINT} has no such data set, or not for this account; "
            "type data.repo=OWNER/NAME as its page on the Hub is called"
        )
        try:
            # The client's own timeouts limit single steps of a request, but not the lookup of a name.
            info = in_time(lambda: HfApi().dataset_info(data.repo, revision=data.revision), PROBE_SECONDS)
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise absent from error
        except RevisionNotFoundError as error:
            raise InputError(
                f"data.revision={data.revision} is not a branch, tag or commit of {data.repo}; type data.revision=main"
            ) from error
        except network_errors() as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
                raise absent from error
            raise HubUnreachable(f"{constants.ENDPOINT}: {reason_of(error)}") from error
        self._names = [sibling.rfilename for sibling in info.siblings or []]
        return str(info.sha)

    def _splits(self) -> dict[str, Any]:
        """Return the data set's splits by our names; this reads the data set's card, not its rows."""
        if self._loaded is None:
            files, splits = self._open()
            typed = {ours: name for ours, name in asdict(self._data.splits).items() if name is not None}
            unlabelled = self._unlabelled_split(typed.pop(UNLABELLED, None), list(splits))
            labeled = [name for name in splits if name not in unlabelled.values()]
            chosen = self._typed_splits(typed, labeled) if typed else choose_splits(labeled, self._origin)
            if "train" not in chosen:
                raise InputError(
                    f"{self._origin} has no train split (its splits: {', '.join(splits)}); type data.splits.train=NAME "
                    "with the one to train on"
                )
            checked = {"train": chosen["train"]} if typed else chosen
            self._check_files({split: files.get(name, []) for split, name in (checked | unlabelled).items()})
            if not typed:
                self._report_unread(chosen)
            if "test" not in chosen:
                LOGGER.info(f"{self._origin}: no test split is read, so the test set is cut from train, by hash")
            self._loaded = {split: splits[name] for split, name in (chosen | unlabelled).items()}
        return self._loaded

    def _typed_splits(self, typed: dict[str, str], there: list[str]) -> dict[str, str]:
        """The splits that `data.splits` names; those that it leaves out are not read.

        Raises:
            InputError: there is no such split, it is named twice, or it is held-out data to train on.
        """
        for ours, name in typed.items():
            key = f"data.splits.{ours}={name}"
            if name not in there:
                raise InputError(f"{key}: {self._origin} has no such split (its splits: {', '.join(there)})")
            if list(typed.values()).count(name) > 1:
                raise InputError(f"{key}: data.splits names it twice; type each split once")
            if ours == "train" and named_splits(name) - {"train"}:
                raise InputError(f"{key}: held-out data is never trained on; type a training split")
        if others := [name for name in there if name not in typed.values()]:
            LOGGER.info(f"{self._origin}: splits that are not read: {', '.join(others)}")
        return typed

    def _unlabelled_split(self, typed: str | None, there: list[str]) -> dict[str, str]:
        """The split without labels that is read, with `data.unlabelled`: the one that is typed, or named so.

        Raises:
            InputError: there is none, there are several, or it is held-out data.
        """
        if not self._data.unlabelled:
            return {}
        names = [name for name in there if is_unlabelled(name)] if typed is None else [typed]
        if typed is not None and named_splits(typed) - {"train"}:
            raise InputError(
                f"data.splits.unlabelled={typed}: held-out data is never trained on; type a split without labels"
            )
        if len(names) != 1 or names[0] not in there:
            found = f"several unlabelled splits ({', '.join(names)})" if len(names) > 1 else "no such unlabelled split"
            raise InputError(
                f"data.unlabelled=true: {self._origin} has {found}; type data.splits.unlabelled=NAME with one of its "
                f"splits ({', '.join(there)})"
            )
        return {UNLABELLED: names[0]}

    def _open(self) -> tuple[dict[str, list[str]], dict[str, Any]]:
        """The files of each of the data set's splits, where they are known, and the splits."""
        sha = self._commit()
        datasets = import_datasets()
        try:
            builder = datasets.load_dataset_builder(self._data.repo, name=self._data.config, revision=sha)
            if hasattr(builder.config, "keep_default_na"):  # csv: an empty text is a text, as in local files
                builder.config.keep_default_na = False
            use_buffered_reads(builder.config)
            files = {
                str(split): [str(url).rpartition(f"@{sha}/")[2] for url in urls]
                for split, urls in (builder.config.data_files or {}).items()
            }
            return files, dict(builder.as_streaming_dataset())
        except (datasets.exceptions.FileNotFoundDatasetsError, ValueError, RuntimeError) as error:
            if configs := _CONFIGS.search(str(error)):
                typed = f"no config {self._data.config!r}" if self._data.config else "several configs"
                raise InputError(
                    f"{self._origin} has {typed}; type data.config= with one of {_PUNCTUATION.sub('', configs[1])}"
                ) from error
            raise InputError(
                f"{self._origin} cannot be streamed ({reason_of(error)}); type another data.repo"
            ) from error
        except network_errors() as error:
            raise HubUnreachable(f"{self.name} cannot be opened: {reason_of(error)}") from error

    def _check_files(self, files: dict[str, list[str]]) -> None:
        """Check that no file is in another split than it is named after.

        The client finds splits by fewer names than `named_splits`, and where it finds none, all files are train.

        Raises:
            InputError: naming the file.
        """
        for split, names in files.items():
            for name in names:
                named = named_splits(*name.split("/"))
                if named and not named & ({split, "train"} if split == UNLABELLED else {split}):
                    raise InputError(
                        f"{self._origin}: its {split} split has {name}, named as {' and '.join(sorted(named))} data; "
                        "download it, and type data.path=FOLDER with the files that you want"
                    )
        refuse_glued_names([name for name in files["train"] if not named_splits(*name.split("/"))], self._origin)

    def _report_unread(self, chosen: Collection[str]) -> None:
        unread = [name for name in self._names if is_data(name) and named_splits(*name.split("/")) - set(chosen)]
        if unread:
            LOGGER.info(f"{self._origin}: named after a split that is not there, but not read: {listed(unread)}")

    def _count(self, held: str) -> int | None:
        dataset = self._splits()[held]
        known = (dataset.info.splits or {}).get(str(dataset.split))
        return known.num_examples if known is not None else None

    def _columns(self, held: str) -> list[str]:
        if held not in self._columns_of:
            try:
                self._columns_of[held] = columns_of(self._splits()[held])
            except UnicodeDecodeError as error:
                raise self._no_text(held, 0, error) from error
            except network_errors() as error:
                raise HubUnreachable(f"{self.name} cannot be opened: {reason_of(error)}") from error
        return self._columns_of[held]

    def _no_text(self, held: str, rows: int, error: UnicodeDecodeError) -> InputError:
        return InputError(
            f"{self._origin}: split {held} is not UTF-8 text (after {rows} rows: {error.reason}); type another "
            "data.revision or data.repo"
        )

    def _parts(self, held: str, interleave: bool, data: DataConfig) -> Iterator[Part]:
        where = f"split {held}"
        if held == UNLABELLED:
            data = replace(data, label_column="")
        shuffled = interleave and held == "train"
        yield Part(where, self._examples(held, data, interleave=shuffled), in_order=not shuffled)

    def _examples(self, held: str, data: DataConfig, *, interleave: bool) -> Examples:
        rows, expected, dataset = 0, self._count(held) or 0, self._splits()[held]
        try:
            check_columns(self._columns(held), f"{self._origin}: its {held} split", data)
            for example in stream_examples(dataset, data, interleave=interleave):
                if held not in ("train", UNLABELLED) and not rows and is_hidden(example[1]):
                    raise InputError(
                        f"{self._origin}: the labels of its {held} split are hidden; leave it out with "
                        f"{self._without(held)}, and the {held} set is cut from train, by hash"
                    )
                yield example
                rows += 1
        except UnicodeDecodeError as error:
            raise self._no_text(held, rows, error) from error
        except network_errors() as error:
            raise HubUnreachable(
                f"the stream of {self.name} broke after {rows} rows of {held}: {reason_of(error)}"
            ) from error
        if rows < expected:
            raise HubUnreachable(
                f"the stream of {self.name} ended after {rows} of the {expected} rows of {held} that its card names"
            )

    def _without(self, left_out: str) -> str:
        """Return the splits that are read but one, as they are typed."""
        kept = [f"{ours}: {dataset.split}" for ours, dataset in self._splits().items() if ours != left_out]
        return f"'data.splits={{{', '.join(kept)}}}'"
