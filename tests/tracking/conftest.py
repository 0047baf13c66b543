import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.wandb_server import WandbServer

KEY = "0123456789abcdef" * 2 + "secret42"


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without W&B account, settings or environment, whose working directory is an empty folder."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(work)
    import wandb

    wandb.teardown()  # the client keeps the environment that it first saw
    yield home
    wandb.teardown()


@pytest.fixture
def api_key() -> str:
    """A well-formed API key."""
    return KEY


@pytest.fixture
def server(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """An account on a server that answers; an operation that the double doesn't know fails the test."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with WandbServer() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running
