"""The best checkpoint as a W&B artifact: logged at the end of a run, fetched by `wandb:ENTITY/PROJECT/NAME:ALIAS`.

It is fetched by `wandb://ENTITY/PROJECT/RUN_ID` or by the address of the run's or the artifact's page, too.

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
from urllib.parse import unquote, urlsplit

from textrnn.base.errors import InputError
from textrnn.base.files import making, replacing_folder, user_cache
from textrnn.base.process import in_time
from textrnn.config.tracking_checks import REGISTRY
from textrnn.tracking.hub_models import is_hub_model, local_model
from textrnn.tracking.wandb_internals import answer_errors, give_up_soon
from textrnn.tracking.wandb_settings import check_account

if TYPE_CHECKING:
    import wandb

MODEL, DATASET = "model", "dataset"
"""Types of artifacts."""
ALIASES = ("best", "latest")
CHECKPOINT = "best.ckpt"
PREFIX = "wandb:"
NAME = r"[\w.-][\w. -]*"
SCHEMES = ("https", "http")
CLOUD = ("wandb.ai", "www.wandb.ai", "api.wandb.ai", "forge.coreweave.com", "api.forge.coreweave.com")
"""Names of W&B's own service (`sdk/lib/urls.py` of the client)."""
RUN_HELP = (
    "run directory (its best checkpoint), checkpoint, model in W&B as wandb:ENTITY/PROJECT/NAME:best or the address of "
    "a run's page, or model on the Hugging Face Hub as hub:OWNER/NAME"
)
"""`--help` of the commands that take a RUN; `local_run` reads it."""
ANSWER_TIMEOUT = 10.0
"""Seconds in which the server must resolve a name."""
LINK_TIMEOUT = 30.0
"""Seconds in which a model must be linked; on a busy machine the client alone needs ten."""
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


def link_model(path: str, registry: str) -> str:
    """Link the best version of the model ENTITY/PROJECT/NAME to a collection of a registry; return what it is there.

    It must have been uploaded. A version that is linked already stays as it is.

    Args:
        path: The model.
        registry: The collection, as `tracking.registry` has it. W&B makes it if the registry hasn't got it.

    Raises:
        answer_errors(): W&B refuses it, or does not answer.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # it would print about the key
    api = wandb.Api(timeout=math.ceil(LINK_TIMEOUT))
    return in_time(lambda: str(api.artifact(f"{path}:best").link(registry).qualified_name), LINK_TIMEOUT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A model in W&B, typed as `wandb:ENTITY/PROJECT/NAME:ALIAS`, or a run that has logged one."""

    typed: str
    path: str
    """The client's path: PROJECT/NAME:ALIAS or PROJECT/RUN_ID, with ENTITY/ before it if that was typed."""
    of_run: bool = False
    """Whether it is a run's path."""
    host: str | None = None
    """The server in a page's address."""


def parse_reference(typed: str) -> Reference:
    """Read a reference; without ENTITY it is the account's default one, without ALIAS `best`, in a registry `latest`.

    Raises:
        InputError: it is malformed.
    """
    shape = f"{PREFIX}ENTITY/PROJECT/NAME:best"
    if typed.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return _page(typed)
    if typed.startswith(f"{PREFIX}//"):
        names = typed.removeprefix(f"{PREFIX}//").split("/")
        if ":" not in names[-1] and len(names) in (2, 3) and all(re.fullmatch(NAME, name) for name in names):
            return Reference(typed=typed, path="/".join(names), of_run=True)
    parts = typed.removeprefix(PREFIX).removeprefix("//").split("/")
    if len(parts) > 3:
        raise InputError(f"{typed}: too many slashes, as no entity, project or name has one; type {shape}.")
    name, colon, alias = parts[-1].partition(":")
    names = [*parts[:-1], name, *([alias] if colon else [])]
    if len(parts) < 2 or not all(re.fullmatch(NAME, part) for part in names):
        raise InputError(f"{typed}: that is not a model in W&B; type {shape}.")
    default = "latest" if parts[-2].startswith(REGISTRY) else "best"
    return Reference(typed=typed, path="/".join([*parts[:-1], f"{name}:{alias or default}"]))


def _page(typed: str) -> Reference:
    """Read the address of a run's page, `.../ENTITY/PROJECT/runs/RUN_ID`, or of an artifact's.

    Raises:
        InputError: it is of another page.
    """
    address = urlsplit(typed)
    path = unquote(address.path)
    if run := re.search(rf"/({NAME})/({NAME})/runs/({NAME})(?:/|$)", path):
        return Reference(typed=typed, path="/".join(run.groups()), of_run=True, host=address.netloc)
    if model := re.search(rf"/({NAME})/({NAME})/artifacts/{NAME}/({NAME})/({NAME})(?:/|$)", path):
        entity, project, name, alias = model.groups()
        return Reference(typed=typed, path=f"{entity}/{project}/{name}:{alias}", host=address.netloc)
    raise InputError(
        f"{typed}: that is no page of a run; type an address such as https://wandb.ai/ENTITY/PROJECT/runs/ID."
    )


def is_reference(run: str) -> bool:
    """Return whether a RUN of the command line is a model in W&B or on the Hub."""
    return is_hub_model(run) or run.startswith((PREFIX, *(f"{scheme}://" for scheme in SCHEMES)))


def local_run(run: str) -> Path:
    """Return the local path of a RUN of the command line; a model in W&B or on the Hub is downloaded.

    A checkpoint from W&B is kept in `$XDG_CACHE_HOME/textrnn/artifacts/DIGEST/NAME-vN`, and the folder of a model on
    the Hub by the Hub's client; an alias or a branch is resolved each time.

    Raises:
        InputError: the reference is malformed, or the model can't be downloaded: no account, no answer, a wrong key, no
            such artifact, one of another type, or a full disk.
    """
    if not is_reference(run):
        return Path(run)
    if is_hub_model(run):
        return local_model(run)
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
    settings = wandb.setup(wandb.Settings(silent=True)).settings  # it would print about the key and its progress
    _check_host(reference, settings.base_url, settings.app_url)

    def find() -> "wandb.Artifact":
        api = wandb.Api(timeout=math.ceil(ANSWER_TIMEOUT))
        found: wandb.Artifact = _model_of(api.run(reference.path)) if reference.of_run else api.artifact(reference.path)
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


def _check_host(reference: Reference, *of_account: str) -> None:
    """Refuse a page of another server than the account's, which would not know it."""
    hosts = {urlsplit(url).netloc.rpartition("@")[2] for url in of_account}
    if hosts & set(CLOUD):
        hosts |= set(CLOUD)
    if reference.host is not None and reference.host not in hosts:
        raise InputError(
            f"{reference.typed}: the account here is of {urlsplit(of_account[0]).netloc.rpartition('@')[2]}; "
            f"set WANDB_BASE_URL to that page's server and run `wandb login`, or type {PREFIX}ENTITY/PROJECT/NAME:best."
        )


def _model_of(run: Any) -> "wandb.Artifact":
    """Return the best of the models that a run has logged, which the client returns without a type.

    Raises:
        ValueError: it has logged none.
    """
    models: list[wandb.Artifact] = [artifact for artifact in run.logged_artifacts() if artifact.type == MODEL]
    if not models:
        raise ValueError("that run has logged no model")
    return next((model for model in models if "best" in model.aliases), models[-1])


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
