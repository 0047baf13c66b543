import logging
import subprocess
from pathlib import Path

import pytest

import textrnn
from textrnn.base.console import LOGGER
from textrnn.tracking import uncommitted
from textrnn.tracking.uncommitted import keep_uncommitted, may_be_uploaded


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed checkout of the package, a notebook and a script; the package is imported from it."""
    checkout = tmp_path / "checkout"
    (checkout / "src" / "textrnn").mkdir(parents=True)
    for name in ("src/textrnn/__init__.py", "train.py", "first.ipynb"):
        (checkout / name).write_text("one\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(checkout)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    monkeypatch.setattr(textrnn, "__file__", str(checkout / "src" / "textrnn" / "__init__.py"))
    return checkout


def test_changes_of_tracked_code_are_kept(checkout: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = tmp_path / "diff.patch"
    (checkout / "src" / "textrnn" / "secret.py").write_text("untracked\n")
    (checkout / "first.ipynb").write_text("a review's text\n")
    keep_uncommitted(kept)
    assert not kept.exists()
    (checkout / "src" / "textrnn" / "__init__.py").write_bytes(b"two \xff\n")
    (checkout / "train.py").unlink()
    with caplog.at_level(logging.INFO, LOGGER.name):
        keep_uncommitted(kept)
    assert caplog.messages == [f"the code's uncommitted changes are kept in {kept}"]
    patch = kept.read_bytes()
    assert b"+two \xff\n" in patch
    assert b"deleted file" in patch
    assert b"untracked" not in patch
    assert b"review" not in patch
    subprocess.run(["git", "-C", str(checkout), "checkout", "-q", "."], check=True)
    subprocess.run(["git", "-C", str(checkout), "apply", str(kept)], check=True)
    assert not (checkout / "train.py").exists()


def test_larger_changes_are_not_kept(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uncommitted, "LARGEST", 200)
    (checkout / "train.py").write_text("x" * 300 + "\n")
    keep_uncommitted(tmp_path / "diff.patch")
    assert not (tmp_path / "diff.patch").exists()
    assert "200 at most; commit them" in caplog.text


def test_the_clients_variables_keep_the_code_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert may_be_uploaded()
    for name in ("WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "true")
            assert not may_be_uploaded()
