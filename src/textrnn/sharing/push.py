"""The folder of a shared model, and its upload to the Hugging Face Hub in one commit."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.exits import FULL
from textrnn.base.files import replacing_folder
from textrnn.base.network import network_errors, reason_of, silence_hub_client
from textrnn.config.schema import Config, TrackingConfig
from textrnn.sharing.export import check_tokenizer, description, sound_network, write_weights
from textrnn.sharing.model_card import model_card, public_command, results_of
from textrnn.tracking.hub_models import CONFIG, TOKENIZER, WEIGHTS
from textrnn.tracking.run_directory import RunDirectory
from textrnn.training.checkpoints import FORMAT, Checkpoint
from textrnn.training.shared_model import RECORD

CARD, CURVES, ONNX = "README.md", "curves.png", "model.onnx"
FILES = (CARD, CONFIG, TOKENIZER, WEIGHTS, CURVES, ONNX)
"""All files that a push may write; of an earlier push those that this one lacks are deleted."""
IDENTITY = ("id", "name", "created", "git_commit", "git_dirty", "seed", "version", "source", "python", "torch")
"""What is shared of a run's identity, with its command; not its group, sweep or SLURM job."""
LOGIN = "run `hf auth login`"
ANSWER_SECONDS = 60.0
"""Seconds in which the Hub must take or answer a part of a request."""


def write_model(checkpoint: Checkpoint, folder: Path, repo: str, run: Path, *, onnx: bool) -> None:
    """Write the folder of a shared model, which must not exist.

    Args:
        checkpoint: The model.
        folder: The folder.
        repo: OWNER/NAME on the Hub, for the card.
        run: The run's directory, or its checkpoint; a directory has results and curves.
        onnx: Whether to write `model.onnx` too.

    Raises:
        InputError: the model can't be shared: it is a language model or has diverged, or `model.onnx` can't be made.
        OSError: the disk refuses.
    """
    from safetensors.torch import save

    if onnx:
        check_tokenizer(checkpoint)
    network = sound_network(checkpoint)
    results = results_of(run)
    card = model_card(checkpoint, repo, run, results, onnx=onnx)
    with replacing_folder(folder, errors=contextlib.nullcontext) as draft:
        (draft / TOKENIZER).write_bytes(checkpoint.tokenizer_json.encode())
        content = {**description(checkpoint, results.metrics), RECORD: _record(checkpoint)}
        (draft / CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        weights = {name: weight.detach().cpu().clone().contiguous() for name, weight in checkpoint.state_dict.items()}
        (draft / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        if onnx:
            write_weights(checkpoint, network, draft, "onnx")
        if (curves := RunDirectory.join(run).curves_png).is_file():
            shutil.copyfile(curves, draft / CURVES)
        (draft / CARD).write_text(card, encoding="utf-8")


def _record(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what `training.shared_model` reads: a checkpoint's record without what is private."""
    identity = {key: checkpoint.identity[key] for key in IDENTITY if key in checkpoint.identity}
    return {
        "format": FORMAT,
        "config": asdict(public_config(checkpoint.config)),
        "vocab_size": checkpoint.vocab_size,
        "identity": {**identity, "command": public_command(checkpoint.identity)},
        "data": checkpoint.data,
        "coverage": checkpoint.coverage,
        "temperature": checkpoint.temperature or 1.0,
        "global_step": checkpoint.global_step,
        "epoch": checkpoint.epoch,
    }


def public_config(config: Config) -> Config:
    """Return a copy without folders of this machine and names of the account: of files the name alone is kept."""
    from textrnn.config.compose import from_dict

    public = from_dict(asdict(config))
    public.run_dir = public.resume = public.data.cache_dir = None
    public.tracking = TrackingConfig()
    paths, model = public.data.path, public.model
    public.data.path = [Path(path).name for path in paths] if isinstance(paths, list) else paths and Path(paths).name
    if model.pretrained is not None:
        model.pretrained = Path(model.pretrained).name
    if model.embedding.vectors is not None and not model.embedding.vectors.startswith("hub:"):
        model.embedding.vectors = Path(model.embedding.vectors).name
    return public


def check_repo(repo: str) -> None:
    """Check that a model's name on the Hub is well-formed: OWNER/NAME.

    Raises:
        InputError: it isn't.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise HFValidationError("it has no slash")
    except HFValidationError as error:
        raise InputError(
            f"{repo}: not a name on the Hub; type OWNER/NAME, of letters, digits, single - and ., at most 96."
        ) from error


def check_account() -> None:
    """Check that there is a token of the Hub; it is not sent.

    Raises:
        InputError: there is none, or it can't be one.
    """
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise InputError(f"push needs an account on the Hub; {LOGIN}, or type --output FOLDER to write the files only.")
    if not token.isascii() or not token.isprintable():  # the client's error would show it
        raise InputError(f"the token of the Hub has characters that no token has; {LOGIN}.")


def upload(folder: Path, repo: str, *, private: bool, title: str) -> str:
    """Upload a folder of `write_model` as one commit; make the repository where there is none.

    Args:
        folder: The folder.
        repo: OWNER/NAME.
        private: Whether a new repository is private; one that is public already is refused.
        title: The commit's title.

    Returns:
        The address of the commit.

    Raises:
        InputError: the Hub refuses, or can't be reached; its files are as before, or there is the whole commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session

    silence_hub_client()
    get_session().timeout = ANSWER_SECONDS  # the client's own is infinite
    api = HfApi()
    with _reported(repo):
        api.create_repo(repo, private=private or None, exist_ok=True)
        info = api.model_info(repo)
        if private and not info.private:
            raise InputError(f"{repo} is public; make it private in its settings on the Hub, or leave out --private.")
        there = {sibling.rfilename for sibling in info.siblings or []}
        additions = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
        for addition in additions:  # one at a time in this thread, so that Ctrl-C needs not wait for others
            api.preupload_lfs_files(repo, [addition])
        old = sorted(there & set(FILES) - {addition.path_in_repo for addition in additions})
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*additions]
        operations += (CommitOperationDelete(name) for name in old)
        # The commit is refused if the branch has moved since then.
        done = api.create_commit(repo, operations, commit_message=title, parent_commit=info.sha)
    return done.commit_url


@contextlib.contextmanager
def _reported(repo: str) -> Iterator[None]:
    """Turn the client's errors into one sentence with a remedy."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    # RuntimeError: a part that could not be uploaded.
    errors: tuple[type[Exception], ...] = (*network_errors(), RuntimeError)
    try:
        yield
    except errors as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        says = {
            401: f"the Hub at {constants.ENDPOINT} refuses the token; {LOGIN} with one that may write",
            403: f"the token may not write there; {LOGIN} with one that may write, or choose another OWNER",
            404: f"the Hub at {constants.ENDPOINT} has no such place, or not for this account; look at OWNER",
            409: "another upload is in progress; type the same command again",
            412: "it has changed during the upload; type the same command again",
            429: "the Hub has had too many requests of this account; type the same command later",
        }
        other = f"the upload failed ({reason_of(cause or error)}); type the same command again"
        unchanged = " Nothing was changed in its files." if status in says else ""  # else an answer may be lost
        raise InputError(f"{repo}: {says.get(status or 0, other)}.{unchanged}") from error
