"""Sources of pretrained vectors: opening the value of `model.embedding.vectors`."""

import logging
from pathlib import Path

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.network import network_errors, reason_of
from textrnn.config.checks import GLOVE, HUB, check_presence, vectors_file, words_file
from textrnn.config.schema import EmbeddingConfig
from textrnn.data.vectors.arrays import WordVectors, open_array, open_glove
from textrnn.data.vectors.cache import open_text

PROBE_SECONDS = 5.0
"""Time limit of a query for a file of the Hub, in seconds."""


def open_vectors(embedding: EmbeddingConfig, cache_dir: Path) -> WordVectors:
    """Open the vectors that `embedding.vectors` names, of length `embedding.size`.

    A text file is read once and kept below `cache_dir`/vectors; a file of the Hub is kept by the Hub's client.

    Raises:
        InputError: they are neither here nor on the Hub, can't be read, or have another size.

    """
    check_presence(embedding)
    name, size = str(embedding.vectors), embedding.size
    if name == GLOVE:
        return open_glove(size)
    path = _from_hub(name) if name.startswith("hub:") else vectors_file(embedding)
    if path.suffix == ".npy":
        return open_array(path, size, name)
    return open_text(path, size, name, cache_dir / "vectors")


def _from_hub(name: str) -> Path:
    """Return the path of a Hub file in the client's cache; a .npy file has its words beside it."""
    parts = HUB.fullmatch(name)
    assert parts is not None, "checked before"
    path = _download(name, parts["repo"], parts["file"], parts["revision"])
    if path.suffix == ".npy":
        _download(name, parts["repo"], str(words_file(Path(parts["file"]))), parts["revision"])
    return path


def _download(name: str, repo: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # errors are reported below
    wrong = f"model.embedding.vectors={name}: the Hub at {constants.ENDPOINT} has no"
    try:
        # A download would retry for a minute with a Hub that is out of reach.
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=PROBE_SECONDS)
        return Path(hf_hub_download(repo, file, revision=revision))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{wrong} model repository {repo}, or not for this account; type hub:OWNER/REPO/FILE."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{wrong} branch, tag or commit {revision} of {repo}; type hub:{repo}/{file}.") from error
    except RemoteEntryNotFoundError as error:
        raise InputError(f"{wrong} file {file} in {repo}; type the name that its page shows.") from error
    except network_errors() as error:
        try:
            kept = Path(hf_hub_download(repo, file, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise InputError(
                f"model.embedding.vectors={name}: the Hub is out of reach ({reason_of(error)}) and this file has not "
                "been downloaded before; type model.embedding.vectors=FILE with a file of this machine, or glove."
            ) from error
        LOGGER.warning(f"the Hub is out of reach: using {repo}/{file} as kept in {kept}")
        return kept
