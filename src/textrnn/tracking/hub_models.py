"""A model on the Hugging Face Hub, as `textrnn push` uploads it: fetched by `hub:OWNER/NAME` or `...@REVISION`.

The Hub's client keeps the files in its own cache. Only the three named files are fetched, and no code.
"""

import re
from pathlib import Path

from textrnn.base.console import LOGGER
from textrnn.base.errors import InputError
from textrnn.base.exits import FULL
from textrnn.base.network import network_errors, reason_of, silence_hub_client
from textrnn.base.process import in_time

PREFIX = "hub:"
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
"""The files of a model, in its folder on the Hub."""
REFERENCE = re.compile(rf"{PREFIX}(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?")
PROBE_SECONDS = 10.0
"""Time limit of the query for a model's commit, in seconds."""


def is_hub_model(run: str) -> bool:
    """Return whether a RUN of the command line is a model on the Hub."""
    return run.startswith(PREFIX)


def local_model(typed: str) -> Path:
    """Return the folder of a model on the Hub, downloaded or as kept from an earlier download.

    Args:
        typed: `hub:OWNER/NAME`, with `@REVISION` for a branch, tag or commit other than main.

    Raises:
        InputError: the reference is malformed, the Hub has no such model for this account, it lacks a file, or it can't
            be downloaded.
    """
    parts = REFERENCE.fullmatch(typed)
    if parts is None:
        raise InputError(
            f"{typed}: that is not a model on the Hub; type {PREFIX}OWNER/NAME, or {PREFIX}OWNER/NAME@TAG."
        )
    folder = _snapshot(typed, parts["repo"], parts["revision"])
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise InputError(f"{typed} has no {name}; type the name of a model that textrnn push uploaded.")
    return folder


def _snapshot(typed: str, repo: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    silence_hub_client()
    files = [CONFIG, TOKENIZER, WEIGHTS]
    wrong = f"{typed}: the Hub at {constants.ENDPOINT} has no"
    try:
        # A download would retry for a minute with a Hub that is out of reach.
        in_time(lambda: HfApi().model_info(repo, revision=revision, timeout=PROBE_SECONDS), PROBE_SECONDS)
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))
    except GatedRepoError as error:
        raise InputError(f"{typed}: its owner gives access on request; ask for it on the model's page.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{wrong} model {repo}, or not for this account; look at its name, or run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{wrong} branch, tag or commit {revision} of {repo}; type {PREFIX}{repo}.") from error
    except network_errors() as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise InputError(f"{typed}: the Hub refuses this account; run `hf auth login`.") from error
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        try:
            kept = Path(snapshot_download(repo, revision=revision, allow_patterns=files, local_files_only=True))
        except LocalEntryNotFoundError:
            raise InputError(
                f"{typed}: the Hub is out of reach ({reason_of(error)}) and this model has not been downloaded before; "
                "check the network, or give a run directory."
            ) from error
        LOGGER.warning(f"the Hub is out of reach: using {repo} as kept in {kept}")
        return kept
