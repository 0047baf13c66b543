"""The loopback server's artifacts, with the real client on the other side."""

from pathlib import Path

import pytest
import wandb
from doubles.wandb_server import WandbServer


def _log(run: wandb.Run, folder: Path, text: str, accuracy: float, aliases: list[str]) -> wandb.Artifact:
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "best ckpt").write_bytes(text.encode() + bytes(range(256)))
    (folder / "inner" / "config.yaml").write_text(f"seed: {accuracy}\n")
    artifact = wandb.Artifact("gru-model", type="model", metadata={"val/accuracy": accuracy})
    artifact.add_dir(str(folder))
    return run.log_artifact(artifact, aliases=aliases).wait()


def test_versions_aliases_metadata_and_files(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with wandb.init(project="films", id="first", dir=tmp_path) as run:
        assert _log(run, folder, "one", 0.5, ["best"]).version == "v0"
        first = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert _log(run, folder, "two", 0.75, ["best"]).version == "v1"
        assert _log(run, folder, "two", 0.75, []).version == "v1", "the same content is no new version"
    versions = {artifact.version: artifact for artifact in server.artifacts.values()}
    assert versions[0].aliases == []
    assert sorted(versions[1].aliases) == ["best", "latest"]
    assert versions[1].metadata == {"val/accuracy": 0.75}

    api = wandb.Api()
    best = api.artifact("tester/films/gru-model:best")
    assert (best.version, best.type, best.metadata) == ("v1", "model", {"val/accuracy": 0.75})
    assert best.logged_by().id == "first"
    got = Path(best.download(str(tmp_path / "got")))
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert (got / path.relative_to(folder)).read_bytes() == path.read_bytes()
    earlier = Path(api.artifact("tester/films/gru-model:v0").download(str(tmp_path / "earlier")))
    assert {path.name: path.read_bytes() for path in earlier.rglob("*") if path.is_file()} == first
    with pytest.raises(wandb.errors.CommError, match="gru-model:second"):
        api.artifact("tester/films/gru-model:second")

    with wandb.init(project="films", id="second", dir=tmp_path) as run:
        used = run.use_artifact("gru-model:latest")
        assert used.version == "v1"
    assert [user.id for user in used.used_by()] == ["second"]
    assert [artifact.name for artifact in api.run("tester/films/second").used_artifacts()] == ["gru-model:v1"]
    assert {artifact.name for artifact in api.run("tester/films/first").logged_artifacts()} == {
        "gru-model:v0",
        "gru-model:v1",
    }


def test_an_alias_can_be_moved_back(server: WandbServer, tmp_path: Path) -> None:
    with wandb.init(project="films", dir=tmp_path) as run:
        _log(run, tmp_path / "model", "one", 0.75, ["best"])
        _log(run, tmp_path / "model", "two", 0.5, ["best"])
    first = wandb.Api().artifact("tester/films/gru-model:v0")
    first.aliases.append("best")
    first.metadata["note"] = "after all"
    first.save()
    back = wandb.Api().artifact("tester/films/gru-model:best")
    assert (back.version, back.metadata["note"]) == ("v0", "after all")
    assert wandb.Api().artifact("tester/films/gru-model:latest").version == "v1"
