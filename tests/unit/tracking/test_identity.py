import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import textrnn
from textrnn.base.errors import InputError
from textrnn.config.schema import Config, ModelConfig, TrackingConfig
from textrnn.tracking import identity as identities
from textrnn.tracking.identity import RunIdentity, new_identity, read_identity, source_digest, write_identity

PACKAGE = Path(textrnn.__file__).parent


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)


def test_two_runs_of_one_seed_have_two_ids() -> None:
    first, second = (new_identity(Config(seed=0), ["train.py"]) for _ in range(2))
    assert re.fullmatch("[a-z0-9]{8}", first.id)
    assert first.id != second.id
    assert first.seed == 0


def test_an_agent_chooses_id_and_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "trial-07")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    identity = new_identity(Config(), ["train.py"])
    assert (identity.id, identity.sweep_id) == ("trial-07", "sweep1")


@pytest.mark.parametrize("bad", ["../up", "a b", "x" * 129])
def test_an_id_that_is_no_directory_name_is_refused(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", bad)
    with pytest.raises(InputError, match="WANDB_RUN_ID"):
        new_identity(Config(), ["train.py"])


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (Config(), "gru-128x1-bi s0"),
        (
            Config(model=ModelConfig(cell="rnn", hidden_size=64, num_layers=2, bidirectional=False), seed=3),
            "rnn-64x2 s3",
        ),
        (Config(tracking=TrackingConfig(name="mine")), "mine"),
    ],
)
def test_name(config: Config, name: str) -> None:
    assert new_identity(config, ["train.py"]).name == name


def test_record_survives_json_and_holds_the_command_but_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret" * 8)
    command = ["train.py", "model=gru", "tracking.notes=a b, ü"]
    identity = new_identity(Config(), command)
    write_identity(tmp_path / "run.json", identity)
    assert read_identity(tmp_path / "run.json") == identity
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text)["command"] == command
    assert "secret" not in text


def test_a_record_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(InputError, match=r"run\.json"):
        read_identity(path)
    write_identity(path, new_identity(Config(), ["train.py"]))
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"run\.json"):
        read_identity(path)
    values = json.loads(whole)
    del values["seed"]
    with pytest.raises(InputError, match="seed"):
        RunIdentity.from_dict(values)
    assert RunIdentity.from_dict({**json.loads(whole), "of_a_newer_version": 1}).to_dict() == json.loads(whole)


def _identity_of(source: Path) -> dict[str, object]:
    """The identity that a process gets which imports the package from `source`."""
    code = (
        "import json\nfrom textrnn.config.schema import Config\nfrom textrnn.tracking.identity import new_identity\n"
        "print(json.dumps(new_identity(Config(), ['x']).to_dict()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=source, capture_output=True, text=True, check=True
    )
    values: dict[str, object] = json.loads(done.stdout)
    return values


def test_commit_is_that_of_the_checkout_the_package_runs_from(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, checkout / "src" / "textrnn", ignore=ignore)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    state = _identity_of(checkout / "src")
    assert (state["git_commit"], state["git_dirty"]) == (None, None), "no commit yet"
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    state = _identity_of(checkout / "src")
    assert (state["git_commit"], state["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    (checkout / "src" / "textrnn" / "errors.py").write_text("# changed\nclass InputError(Exception): ...\n")
    assert _identity_of(checkout / "src")["git_dirty"] is True
    # An installed copy inside somebody else's repository is not that repository's commit.
    shutil.copytree(PACKAGE, checkout / "site-packages" / "textrnn", ignore=ignore)
    state = _identity_of(checkout / "site-packages")
    assert (state["git_commit"], state["git_dirty"]) == (None, None)


def test_the_digest_follows_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "textrnn", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    seen = set()
    for name in ("a.py", "deep/b.c", "deep/conf/c.yaml"):
        for text in ("1", "2"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
            seen.add(source_digest())
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    seen.add(source_digest())
    assert len(seen) == 7
    (tmp_path / "a.pyc").write_text("what Python makes of it")
    assert source_digest() in seen
