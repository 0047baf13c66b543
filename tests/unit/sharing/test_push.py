"""A run on the Hub: the same logits from there, one commit, nothing private; what is refused is one sentence."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.hub_uploads import UploadHub
from doubles.shared_runs import PRIVATE, TEXTS, TOKEN, use_client, write_run

from textrnn import cli, load
from textrnn.base.errors import InputError
from textrnn.config.schema import Config, EmbeddingConfig, ModelConfig
from textrnn.sharing.push import public_config

# The Hub's client puts a large file in a way that its HTTP library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

REPO = "alice/tiny"
FILES = {"README.md", "config.json", "tokenizer.json", "model.safetensors", "curves.png"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "first")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    with UploadHub(tmp_path / "served", {TOKEN: {"alice"}}) as served:
        use_client(monkeypatch, served, tmp_path / "home")
        yield served


def push(*typed: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    assert cli.run("push", typed) == code
    shown = capsys.readouterr()
    if code:
        assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert TOKEN not in shown.out + shown.err
    return shown.err if code else shown.out


def test_a_pushed_model_has_the_logits_of_the_run(
    run: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = push(str(run), REPO, capsys=capsys)
    first = hub.commit(REPO)
    assert f"uploaded: {hub.url}/{REPO}/commit/{first}\n" in shown
    assert hub.names(REPO) == FILES
    assert hub.repositories[REPO].titles == ["initial commit", "gru-128x1-bi s0, trained with textrnn"]
    hub.requests.clear()
    ours, theirs = load(run), load(f"hub:{REPO}")
    assert torch.equal(theirs.logits(TEXTS), ours.logits(TEXTS))
    assert theirs.classes == ours.classes
    assert theirs.checkpoint.tokenizer_json == ours.checkpoint.tokenizer_json
    fetched = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    assert fetched == {"config.json", "tokenizer.json", "model.safetensors"}

    push(str(run), REPO, capsys=capsys)
    assert hub.commit(REPO) == first  # nothing has changed
    hub.add(REPO, {"model.onnx": b"of another push", "notes.txt": b"of a person"})
    other = write_run(run.with_name("other"), seed=1)
    push(str(other), REPO, capsys=capsys)
    assert hub.names(REPO) == {*FILES, "notes.txt"}
    assert torch.equal(load(f"hub:{REPO}").logits(TEXTS), load(other).logits(TEXTS))
    assert torch.equal(load(f"hub:{REPO}@{first}").logits(TEXTS), ours.logits(TEXTS))


def test_nothing_private_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.with_name("shared")
    assert "nothing was uploaded" in push(str(run), REPO, "--output", str(folder), capsys=capsys)
    assert {path.name for path in folder.iterdir()} == FILES
    for path in folder.iterdir():
        content = path.read_bytes().decode("utf-8", "replace")
        assert not [word for word in (*PRIVATE, str(run)) if word in content], path
    config = json.loads((folder / "config.json").read_text())
    assert config["checkpoint"]["config"]["data"]["path"] == "reviews.csv"
    assert config["checkpoint"]["identity"]["command"] == ["textrnn", "train", "data.path=reviews.csv"]
    assert torch.equal(load(folder).logits(TEXTS), load(run).logits(TEXTS))
    refused = push(str(run), REPO, "--output", str(folder), capsys=capsys, code=2)
    assert "is there already" in refused


def test_names_of_files_are_kept_without_their_folders() -> None:
    embedding = EmbeddingConfig(kind="vectors", vectors="/home/alice/words.txt")
    config = Config(model=ModelConfig(embedding=embedding, pretrained="/home/alice/runs/lm"))
    config.data.path = ["/home/alice/a.csv", "b.csv"]
    public = public_config(config)
    assert (public.model.embedding.vectors, public.model.pretrained) == ("words.txt", "lm")
    assert public.data.path == ["a.csv", "b.csv"]
    assert config.model.pretrained == "/home/alice/runs/lm"
    config.model.embedding.vectors = "hub:some/vectors/mine.npy"
    assert public_config(config).model.embedding.vectors == "hub:some/vectors/mine.npy"


def test_onnx_and_private(run: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str]) -> None:
    push(str(run), REPO, "--onnx", "--private", capsys=capsys)
    assert hub.names(REPO) == {*FILES, "model.onnx"}
    assert hub.is_private(REPO)
    assert "\n- onnx\n" in hub.files(REPO)["README.md"].read_text()
    hub.make("alice/public")
    refused = push(str(run), "alice/public", "--private", capsys=capsys, code=2)
    assert "alice/public is public; make it private in its settings" in refused
    assert hub.names("alice/public") == set()


@pytest.mark.parametrize(
    ("step", "status", "told"),
    [
        ("create", 401, "refuses the token; run `hf auth login`"),
        ("create", 403, "the token may not write there"),
        ("create", 429, "too many requests"),
        ("create", 500, "the upload failed"),
        ("yaml", 400, "Invalid metadata in README.md"),
        ("preupload", 404, "has no such place"),
        ("batch", 403, "the token may not write there"),
        ("lfs", 403, "the token may not write there"),
        ("commit", 409, "another upload is in progress"),
        ("commit", 412, "it has changed during the upload"),
        ("commit", 503, "the upload failed"),
        ("commit", "cut", "the upload failed"),
    ],
)
def test_a_refused_upload_changes_nothing(
    run: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str], step: str, status: int | str, told: str
) -> None:
    if step != "create":  # where the repository is there, the client needs no right to make it
        hub.make(REPO)
    hub.fail(str(status), on=step)
    refused = push(str(run), REPO, capsys=capsys, code=2)
    assert refused.startswith(f"error: {REPO}: ")
    assert told in refused
    assert refused.endswith("Nothing was changed in its files.\n") == ("failed" not in told and step != "yaml")
    assert [hub.names(repo) for repo in hub.repositories] == [set()] * (step != "create")


def test_an_account_that_may_not_write(
    run: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the token may not write there" in push(str(run), "bob/tiny", capsys=capsys, code=2)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "refuses the token; run `hf auth login`" in push(str(run), REPO, capsys=capsys, code=2)
    hub.requests.clear()
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\x01")
    assert "has characters that no token has" in push(str(run), REPO, capsys=capsys, code=2)
    monkeypatch.delenv("HF_TOKEN")
    assert "needs an account on the Hub; run `hf auth login`" in push(str(run), REPO, capsys=capsys, code=2)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "alice/", "alice/ti ny", "alice/a--b", "alice/tiny.git", "hub:a/b"])
def test_names_that_the_hub_has_not(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "not a name on the Hub; type OWNER/NAME" in push(str(run), name, capsys=capsys, code=2)


def test_a_run_that_has_diverged_is_not_shared(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = run / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["state_dict"]["model.output.bias"].fill_(torch.nan)
    torch.save(content, best)
    refused = push(str(run), REPO, "--output", str(run.with_name("shared")), capsys=capsys, code=2)
    assert "the run has diverged" in refused
    assert not run.with_name("shared").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["lfs", "commit"])
def test_an_interrupted_upload_changes_nothing(
    run: Path, hub: UploadHub, environment: dict[str, str], step: str
) -> None:
    hub.make(REPO)
    hub.fail("stall", on=step)
    env = environment | {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "textrnn", "push", str(run), REPO]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True}
    # A shell that starts the tests in the background has them ignore Ctrl-C, and what they start too.
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=env, cwd=run, **pipes) as pushing:
        while not any(("/commit/" if step == "commit" else "/large/") in request for request in hub.requests):
            assert pushing.poll() is None
            time.sleep(0.1)
        pushing.send_signal(signal.SIGINT)
        try:
            _, errors = pushing.communicate(timeout=50)  # less than a request's time limit
        finally:
            pushing.kill()
    assert (pushing.returncode, errors.splitlines()[-1]) == (130, "interrupted")
    assert TOKEN not in errors
    assert hub.names(REPO) == set()


def test_an_upload_without_a_network(run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from textrnn.sharing.push import upload

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the upload failed"):
        upload(run, REPO, private=False, title="a title")
