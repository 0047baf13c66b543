"""Reviews from the Hugging Face Hub (`data.repo`)."""

import os
from collections.abc import Collection, Iterator
from typing import Any

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.process import in_time
from textrnn.config.schema import DataConfig
from textrnn.data.huggingface import (
    check_columns,
    columns_of,
    import_datasets,
    network_errors,
    reason_of,
    silence_libraries,
    stream_examples,
)
from textrnn.data.sources import HASHED_SHARE, Examples, Part, Row, expected_rows, split_shares, stream_rows
from textrnn.data.split_files import choose_splits, is_data, listed, named_splits, refuse_glued_names

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

    def identity(self) -> dict[str, str | int | float | None]:
        """Return repository, commit and columns.

        Raises:
            HubUnreachable: the Hub didn't answer within `PROBE_SECONDS`, or the client is set to offline.
            InputError: the Hub has no such repository or revision.
        """
        data = self._data
        return {
            "kind": "hub",
            "repo": data.repo,
            "revision": self._commit(),
            "text_column": data.text_column,
            "label_column": data.label_column,
            "hashed_share": HASHED_SHARE,
        }

    def expected_rows(self, splits: Collection[str]) -> int | None:
        """Return about how many rows `splits` have, from the data set's card; None if it has no numbers."""
        return expected_rows(split_shares(self._splits()), splits, self._count)

    def rows(self, splits: Collection[str], *, interleave: bool = False) -> Iterator[Row]:
        """One pass over the Hub's splits that `splits` need; see `Source.rows`.

        Raises HubUnreachable when the connection breaks, besides.
        """
        shares = split_shares(self._splits())
        yield from stream_rows(self._origin, shares, lambda held: self._parts(held, interleave), splits, self._data)

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
            chosen = choose_splits(list(splits), self._origin)
            if "train" not in chosen:
                raise InputError(
                    f"{self._origin} has no train split (its splits: {', '.join(splits)}); type data.repo=OWNER/NAME "
                    "of a data set that has one"
                )
            self._check_files({split: files.get(name, []) for split, name in chosen.items()})
            self._loaded = {split: splits[name] for split, name in chosen.items()}
        return self._loaded

    def _open(self) -> tuple[dict[str, list[str]], dict[str, Any]]:
        """The files of each of the data set's splits, where they are known, and the splits."""
        sha = self._commit()
        datasets = import_datasets()
        try:
            builder = datasets.load_dataset_builder(self._data.repo, revision=sha)
            if hasattr(builder.config, "keep_default_na"):  # csv: an empty text is a text, as in local files
                builder.config.keep_default_na = False
            files = {
                str(split): [str(url).rpartition(f"@{sha}/")[2] for url in urls]
                for split, urls in (builder.config.data_files or {}).items()
            }
            return files, dict(builder.as_streaming_dataset())
        except (datasets.exceptions.FileNotFoundDatasetsError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self._origin} cannot be streamed ({reason_of(error)}); type another data.repo"
            ) from error
        except network_errors() as error:
            raise HubUnreachable(f"{self.name} cannot be opened: {reason_of(error)}") from error

    def _check_files(self, files: dict[str, list[str]]) -> None:
        """Check that no file is in another split than it is named after; name those that are not read.

        The client finds splits by fewer names than `named_splits`, and where it finds none, all files are train.

        Raises:
            InputError: naming the file.
        """
        for split, names in files.items():
            for name in names:
                named = named_splits(*name.split("/"))
                if named and split not in named:
                    raise InputError(
                        f"{self._origin}: its {split} split has {name}, named as {' and '.join(sorted(named))} data; "
                        "download it, and type data.path=FOLDER with the files that you want"
                    )
        refuse_glued_names([name for name in files["train"] if not named_splits(*name.split("/"))], self._origin)
        unread = [name for name in self._names if is_data(name) and named_splits(*name.split("/")) - set(files)]
        if unread:
            LOGGER.info(f"{self._origin}: named after a split that is not there, but not read: {listed(unread)}")

    def _count(self, held: str) -> int | None:
        dataset = self._splits()[held]
        known = (dataset.info.splits or {}).get(str(dataset.split))
        return known.num_examples if known is not None else None

    def _parts(self, held: str, interleave: bool) -> Iterator[Part]:
        where = f"split {held}"
        shuffled = interleave and held == "train"
        yield Part(where, self._examples(held, interleave=shuffled), in_order=not shuffled)

    def _examples(self, held: str, *, interleave: bool) -> Examples:
        rows, expected, dataset = 0, self._count(held) or 0, self._splits()[held]
        try:
            check_columns(columns_of(dataset), self._origin, self._data)
            for example in stream_examples(dataset, self._data, interleave=interleave):
                yield example
                rows += 1
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._origin}: split {held} is not UTF-8 text (after {rows} rows: {error.reason}); type another "
                "data.revision or data.repo"
            ) from error
        except network_errors() as error:
            raise HubUnreachable(
                f"the stream of {self.name} broke after {rows} rows of {held}: {reason_of(error)}"
            ) from error
        if rows < expected:
            raise HubUnreachable(
                f"the stream of {self.name} ended after {rows} of the {expected} rows of {held} that its card names"
            )
