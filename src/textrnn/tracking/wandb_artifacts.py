"""The best checkpoint as a W&B artifact: logged at the end of a run, fetched by `wandb:ENTITY/PROJECT/NAME:ALIAS`.

The data is logged as the run's input artifact: its fingerprint and sizes, no review.
"""

import base64
import contextlib
import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrnn.base.errors import InputError
from textrnn.base.files import making, replacing_folder, user_cache
from textrnn.base.process import in_time
from textrnn.tracking.wandb_internals import answer_errors, give_up_soon
from textrnn.tracking.wandb_settings import check_account

if TYPE_CHECKING:
    import wandb

MODEL, DATASET = "model", "dataset"
"""Types of artifacts."""
ALIASES = ("best", "latest")
CHECKPOINT = "best.ckpt"
PREFIX = "wandb:"
RUN_HELP = "run directory (its best checkpoint), checkpoint, or model in W&B as wandb:ENTITY/PROJECT/NAME:best"
"""`--help` of the commands that take a RUN; `local_run` reads it."""
ANSWER_TIMEOUT = 10.0
"""Seconds in which the server must resolve a name."""
DOWNLOAD_TIMEOUT = 600.0
"""Seconds in which a checkpoint must be downloaded."""


@dataclass(kw_only=True, slots=True)
class ModelFiles:
    """Content of a model artifact."""

    checkpoint: Path
    config_yaml: Path
    tokenizer_json: str
    """The tokenizer itself."""

    def put_into(self, folder: Path) -> None:
        """Put the files into `folder`; the checkpoint is linked where possible, not copied."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        try:
            os.link(self.checkpoint, folder / CHECKPOINT)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.checkpoint, folder / CHECKPOINT)
        shutil.copyfile(self.config_yaml, folder / "config.yaml")
        (folder / "tokenizer.json").write_text(self.tokenizer_json, encoding="utf-8")


def model_artifact(name: str, folder: Path, metadata: Mapping[str, Any]) -> "wandb.Artifact":
    """Return the artifact of the files in `folder`, which must stay as they are until they are uploaded.

    They are not copied to W&B's folder in the home, as an offline run that is synced elsewhere would miss them.
    """
    import wandb

    artifact = wandb.Artifact(name, type=MODEL, metadata=dict(metadata))
    for path in sorted(folder.iterdir()):
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
    return artifact


def dataset_artifact(fingerprint: str, metadata: Mapping[str, Any]) -> "wandb.Artifact":
    """Return the artifact of the data, without a file: all runs on the same data share it."""
    import wandb

    return wandb.Artifact(f"reviews-{fingerprint}", type=DATASET, metadata=dict(metadata))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A model in W&B, typed as `wandb:ENTITY/PROJECT/NAME:ALIAS`."""

    typed: str
    path: str
    """The client's path: PROJECT/NAME:ALIAS, with ENTITY/ before it if that was typed."""


def parse_reference(typed: str) -> Reference:
    """Read a reference; without ENTITY it is the account's default one, without ALIAS it is `best`.

    Raises:
        InputError: it is malformed.
    """
    shape = f"{PREFIX}ENTITY/PROJECT/NAME:best"
    parts = typed.removeprefix(PREFIX).split("/")
    if len(parts) > 3:
        raise InputError(f"{typed}: too many slashes, as no entity, project or name has one; type {shape}.")
    name, colon, alias = parts[-1].partition(":")
    names = [*parts[:-1], name, *([alias] if colon else [])]
    if len(parts) < 2 or not all(re.fullmatch(r"[\w.-][\w. -]*", part) for part in names):
        raise InputError(f"{typed}: that is not a model in W&B; type {shape}.")
    return Reference(typed=typed, path="/".join([*parts[:-1], f"{name}:{alias or 'best'}"]))


def is_reference(run: str) -> bool:
    """Return whether a RUN of the command line is a model in W&B."""
    return run.startswith(PREFIX)


def local_run(run: str) -> Path:
    """Return the local path of a RUN of the command line; the checkpoint of a `wandb:` reference is downloaded.

    The checkpoint is kept in `$XDG_CACHE_HOME/textrnn/artifacts/DIGEST/NAME-vN`; the alias is resolved each time.

    Raises:
        InputError: the reference is malformed, or the model can't be downloaded: no account, no answer, a wrong key, no
            such artifact, one of another type, or a full disk.
    """
    if not is_reference(run):
        return Path(run)
    reference = parse_reference(run)
    check_account(needed_for=run, instead="give a run directory")
    artifact = _find(reference)
    if artifact.type != MODEL:
        raise InputError(f"{run}: that is a {artifact.type}, not a model; type the name of a model, as W&B lists it.")
    if CHECKPOINT not in artifact.manifest.entries:
        raise InputError(f"{run}: that model has no {CHECKPOINT}; type the name of a model that train.py logged.")
    folder = _cache() / _plain(artifact.digest) / _plain(f"{artifact.name.partition(':')[0]}-{artifact.version}")
    try:
        return _fetched(artifact, folder)
    except answer_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; network errors have no errno
            raise InputError(f"{run}: can't be written to {folder} ({error.strerror}); make room there.") from error
        reason = " ".join(str(error).split())
        raise InputError(f"{run}: the download failed ({reason}); check the network and try again.") from error


def _cache() -> Path:
    return user_cache() / "artifacts"


def _plain(name: str) -> str:
    """Return a name from the server as a folder's name."""
    return re.sub(r"[^\w-]", "_", name)


def _find(reference: Reference) -> "wandb.Artifact":
    """Query the server within a time limit, as the client would retry for minutes.

    Raises:
        InputError: the query is refused, or there is no answer within `ANSWER_TIMEOUT` seconds.
    """
    import wandb

    typed = reference.typed
    wandb.setup(wandb.Settings(silent=True))  # it would print about the key and its progress

    def find() -> "wandb.Artifact":
        found: wandb.Artifact = wandb.Api(timeout=math.ceil(ANSWER_TIMEOUT)).artifact(reference.path)
        try:
            _ = found.manifest  # it is fetched now, and kept
        except (LookupError, TypeError, AttributeError) as error:
            # The client reads whatever storage answers, such as an error's text, as a manifest.
            raise ValueError("what storage answers is no manifest") from error
        give_up_soon(found)
        return found

    try:
        return in_time(find, ANSWER_TIMEOUT)
    except TimeoutError as error:
        raise InputError(f"{typed}: W&B's server does not answer; check the network.") from error
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"{typed}: W&B refuses the API key; run `wandb login --relogin`.") from error
    except answer_errors() as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{typed}: W&B does not give it ({reason}); look at its name there, or try later.") from error


def _fetched(artifact: "wandb.Artifact", folder: Path) -> Path:
    """Return the checkpoint in `folder`, which one process downloads atomically."""
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file():
        return checkpoint
    with making(folder, "downloads", errors=contextlib.nullcontext):
        if not checkpoint.is_file():  # another process may have downloaded it while this one waited
            with replacing_folder(folder, errors=contextlib.nullcontext) as draft:
                in_time(
                    lambda: artifact.download(root=draft, skip_cache=True, path_prefix=CHECKPOINT), DOWNLOAD_TIMEOUT
                )
                # The client does not check that the download is complete.
                if _digest(draft / CHECKPOINT) != artifact.manifest.entries[CHECKPOINT].digest:
                    raise ValueError(f"{CHECKPOINT} is not as it was logged")
    return checkpoint


def _digest(path: Path) -> str:
    """Return a file's digest as in a manifest."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()).decode()
