import gc
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from doubles.wandb_server import Fault, WandbServer

from textrnn.base.errors import InputError
from textrnn.tracking import wandb_artifacts as artifacts
from textrnn.tracking.wandb_artifacts import ModelFiles, link_model, local_run, model_artifact, parse_reference
from textrnn.tracking.wandb_internals import answer_errors


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("wandb:me/films/gru-1:best", "me/films/gru-1:best"),
        ("wandb:me/films/gru-1:v3", "me/films/gru-1:v3"),
        ("wandb:films/gru-1:latest", "films/gru-1:latest"),
        ("wandb:me/my films/gru.1", "me/my films/gru.1:best"),
        ("wandb:wandb-registry-model/imdb", "wandb-registry-model/imdb:latest"),
        ("wandb:Film Lab/wandb-registry-model/imdb:v1", "Film Lab/wandb-registry-model/imdb:v1"),
        ("wandb://me/films/gru-1:v3", "me/films/gru-1:v3"),
        ("https://wandb.ai/me/films/artifacts/model/gru-1/v3/files", "me/films/gru-1:v3"),
    ],
)
def test_a_reference_is_read(typed: str, path: str) -> None:
    found = parse_reference(typed)
    assert (found.path, found.of_run) == (path, False)


@pytest.mark.parametrize(
    "typed",
    [
        "wandb://me/my films/1a2b",
        "https://wandb.ai/me/my%20films/runs/1a2b",
        "https://wandb.ai/me/my%20films/runs/1a2b/logs?nw=nwuserme",
        "https://forge.coreweave.com/wandb/me/my%20films/runs/1a2b",
        "http://127.0.0.1:8080/me/my%20films/runs/1a2b",
    ],
)
def test_a_run_is_read(typed: str) -> None:
    found = parse_reference(typed)
    assert (found.path, found.of_run) == ("me/my films/1a2b", True)


@pytest.mark.parametrize(
    "typed",
    [
        *("wandb:", "wandb:gru-1", "wandb:gru-1:best", "wandb:me/films/", "wandb://gru-1", "wandb:me//gru-1"),
        *("wandb:me/films/gru-1:", "wandb:me/films/gru-1:a:b", "wandb:me/fi#lms/gru-1", "wandb:me/a/b/gru-1:best"),
    ],
)
def test_what_is_no_reference_is_refused(typed: str) -> None:
    with pytest.raises(InputError, match="type wandb:ENTITY/PROJECT/NAME:best") as caught:
        local_run(typed)
    assert str(caught.value).startswith(f"{typed}: ")


def _log(folder: Path, *contents: str, kind: str = "model", name: str = "best.ckpt") -> None:
    with wandb.init(project="films", dir=folder, settings=wandb.Settings(silent=True, console="off")) as run:
        for content in contents:
            path = folder / content / name
            path.parent.mkdir()
            path.write_text(content)
            artifact = wandb.Artifact("gru-1", type=kind)
            artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=["best"]).wait()


def test_a_model_is_fetched_once_and_an_alias_that_moved_again(
    server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _log(tmp_path, "one")
    wandb.teardown()  # as in a process of its own
    capfd.readouterr()
    first = local_run("wandb:tester/films/gru-1:best")
    assert first.read_text() == "one"
    assert first.is_relative_to(Path.home() / ".cache" / "textrnn" / "artifacts")
    assert first.parent.name == "gru-1-v0"
    ((run_id, _),) = server.runs.items()
    for typed in (f"{server.url}/tester/films/runs/{run_id}/overview", f"wandb://films/{run_id}"):
        assert local_run(typed) == first
    fetched = first.stat().st_mtime_ns
    assert local_run("wandb:films/gru-1").stat().st_mtime_ns == fetched
    assert capfd.readouterr() == ("", "")
    _log(tmp_path, "two")
    second = local_run("wandb:films/gru-1")
    assert (second.read_text(), second.parent.name) == ("two", "gru-1-v1")
    assert local_run("wandb:films/gru-1:v0") == first
    assert sorted(path.name for path in first.parents[2].rglob("*") if path.is_file()) == ["best.ckpt", "best.ckpt"]
    with pytest.raises(InputError, match="gru-1:v7' not found"):
        local_run("wandb:films/gru-1:v7")
    # A download that breaks off leaves nothing behind, and the sentence doesn't speak of the disk.
    first.unlink()
    (model,) = [artifact for artifact in server.artifacts.values() if artifact.version == 0]
    content, model.files["best.ckpt"] = model.files["best.ckpt"], b"other"
    with pytest.raises(InputError, match="the download failed"):
        local_run("wandb:films/gru-1:v0")
    assert not first.exists()
    model.files["best.ckpt"] = content
    assert local_run("wandb:films/gru-1:v0").read_text() == "one"


def test_a_model_is_linked_to_a_registry_and_fetched_from_there(
    server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _log(tmp_path, "one", "two")
    capfd.readouterr()
    for registry in ("wandb-registry-model/imdb", "Film Lab/wandb-registry-model/imdb"):  # linked once
        assert link_model("tester/films/gru-1", registry) == "film-lab/wandb-registry-model/imdb:v0"
    wandb.teardown()  # as in a process of its own
    server.features = []  # a server that answers with the number alone
    assert link_model("tester/films/gru-1", "wandb-registry-model/other") == "film-lab/wandb-registry-model/other:v0"
    assert {name: len(links) for name, links in server.registry.links.items()} == {
        "wandb-registry-model/imdb": 1,
        "wandb-registry-model/other": 1,
    }
    assert local_run("wandb:wandb-registry-model/imdb").read_text() == "two"
    assert capfd.readouterr() == ("", "")


def test_a_link_that_is_refused_says_why(server: WandbServer, tmp_path: Path) -> None:
    _log(tmp_path, "one")
    for registry, said in (
        ("wandb-registry-none/imdb", "project not found"),
        ("Others/wandb-registry-model/imdb", "Unable to find organization for entity 'tester'"),
    ):
        with pytest.raises(answer_errors(), match=said):
            link_model("tester/films/gru-1", registry)
    with pytest.raises(answer_errors(), match="gru-2:best' not found"):
        link_model("tester/films/gru-2", "wandb-registry-model/imdb")
    server.registry.has_organization = False
    wandb.teardown()  # the client keeps the organization that it has found
    with pytest.raises(answer_errors(), match="Unable to find organization for entity 'tester'"):
        link_model("tester/films/gru-1", "wandb-registry-model/imdb")
    assert server.registry.links == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the client's files and sockets, after failed downloads
def test_what_the_server_refuses_is_one_sentence(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artifacts, "ANSWER_TIMEOUT", 3.0)
    _log(tmp_path, "one")
    wandb.teardown()  # as in a process of its own
    capfd.readouterr()
    unanswered = []
    for operation in ("ArtifactMembershipByName", "FetchArtifactManifest", "GET manifest", "GET artifact"):
        for kind in (403, 500, "errors", "half"):
            if kind == "errors" and operation.startswith("GET"):
                continue
            server.faults = [Fault(operation, kind, times=None)]
            with pytest.raises(InputError) as caught:
                local_run("wandb:films/gru-1:best")
            said = str(caught.value)
            del caught  # it holds the client's files open
            if "\n" in said or not said.startswith("wandb:films/gru-1:best: "):
                unanswered.append((operation, kind, said))
    gc.collect()
    assert unanswered == []
    assert capfd.readouterr() == ("", "")
    server.faults.clear()
    assert local_run("wandb:films/gru-1:best").read_text() == "one"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [("dataset", "best.ckpt", "that is a dataset, not a model"), ("model", "a.bin", "has no best.ckpt")],
)
def test_what_is_no_model_of_ours_is_refused(
    server: WandbServer, tmp_path: Path, kind: str, name: str, said: str
) -> None:
    _log(tmp_path, "one", kind=kind, name=name)
    with pytest.raises(InputError, match=said):
        local_run("wandb:films/gru-1:best")


def test_pages_that_are_no_runs_or_of_another_server(server: WandbServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no page of a run; type an address such as"):
        local_run(f"{server.url}/tester/films/sweeps/abc")
    with pytest.raises(InputError, match=rf"the account here is of 127.0.0.1:{server.port}; set WANDB_BASE_URL"):
        local_run("https://wandb.ai/tester/films/runs/abc")
    with wandb.init(project="films", dir=tmp_path, id="bare", settings=wandb.Settings(silent=True, console="off")):
        pass
    with pytest.raises(InputError, match="that run has logged no model"):
        local_run("wandb://tester/films/bare")
    with pytest.raises(InputError, match="Could not find run"):
        local_run("wandb://tester/films/none")


def test_a_model_needs_an_account_and_an_answer(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reference = "wandb:films/gru-1:best"
    monkeypatch.setattr(artifacts, "ANSWER_TIMEOUT", 1.0)
    server.stall()
    with pytest.raises(InputError, match="does not answer"):
        local_run(reference)
    server.die()
    with pytest.raises(InputError, match="does not answer: check the network, or give a run directory"):
        local_run(reference)
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(InputError, match=r"no W&B account configured for http://127.*: run `wandb login`"):
        local_run(reference)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that knows nobody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(401, {"errors": [{"message": "user is not logged in"}]})

        def log_message(self, *arguments: object) -> None:
            """Say nothing on stderr."""

        def _say(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("key", ["0123456789" * 4, "short"])
def test_a_wrong_key_is_refused_in_a_sentence_that_does_not_tell_it(
    key: str, refusing: str, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", refusing)
    monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(InputError, match="API key") as caught:
        local_run("wandb:films/gru-1:best")
    assert key not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_files_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    files = ModelFiles(checkpoint=tmp_path / "best.ckpt", config_yaml=tmp_path / "config.yaml", tokenizer_json="{}")
    folder = tmp_path / "model"
    for content in (b"weights", b"other weights"):  # a run that goes on has another best checkpoint
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(tmp_path / "best.ckpt")
        files.put_into(folder)
        assert (folder / "best.ckpt").read_bytes() == content
    artifact = model_artifact("gru-1", folder, {"best_step": 3})
    assert sorted(artifact.manifest.entries) == ["best.ckpt", "config.yaml", "tokenizer.json"]
    assert (artifact.type, artifact.metadata) == ("model", {"best_step": 3})
