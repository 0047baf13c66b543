"""A finished run with an untrained tiny model, as far as `textrnn push` reads it; the Hub's real client on loopback."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from doubles.hub_uploads import UploadHub
from doubles.tiny_checkpoint import write_checkpoint
from huggingface_hub import constants

from textrnn.config.schema import Config, DataConfig
from textrnn.data.tokenizer import train_tokenizer
from textrnn.tracking.identity import new_identity, write_identity
from textrnn.tracking.summary import RunSummary, Status, write_summary

WORDS = ["a", "fine", "film", "with", "many", "dull", "scenes", "and", "one", "that", "is", "very", "long"]
TEXTS = [" ".join((WORDS * 3)[start : start + length]) for start in range(5) for length in (0, 1, 7, 30, 3)]
SPLITS = {name: {"reviews": 10, "tokens": 100, "crc32": 7} for name in ("train", "validation", "test")}
STORED = {"fingerprint": "f00d", "revision": None, "classes": ["negative", "positive"], "splits": SPLITS}
TOKEN = "hf_AliceSecretSecret"
PRIVATE = ("/home/alice", "secret-team", "Secret")
"""What must not leave the machine."""


def write_run(path: Path, *, seed: int = 0, accuracy: float = 0.75) -> Path:
    """Write a finished run on own files of a folder that nobody else shall know."""
    torch.manual_seed(seed)
    data = DataConfig(path="/home/alice/secret/reviews.csv", max_length=20, cache_dir="/home/alice/cache")
    (path / "checkpoints").mkdir(parents=True)
    best = write_checkpoint(path / "checkpoints" / "best.ckpt", train_tokenizer([" ".join(WORDS)], "word", 100), data)
    content = torch.load(best, weights_only=True)
    record = content["textrnn"]
    record["data"] = STORED
    record["config"] |= {"seed": seed, "run_dir": str(path)}
    record["config"]["tracking"] |= {"entity": "secret-team"}
    command = ["/home/alice/train.py", "data.path=/home/alice/secret/reviews.csv", "tracking.entity=secret-team"]
    identity = replace(new_identity(Config(seed=seed), [*command, f"run_dir={path}"]), id=path.name)
    record["identity"] = identity.to_dict()
    torch.save(content, best)
    write_identity(path / "run.json", identity)
    config = Config(seed=seed, run_dir=str(path), data=data)
    (path / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    (path / "curves.png").write_bytes(b"\x89PNG\r\n\0")
    metrics = {"val/loss": 0.5, "val/accuracy": accuracy, "test/loss": 0.6, "test/accuracy": accuracy - 0.05}
    summary = RunSummary(
        status=Status.FINISHED,
        metrics=metrics,
        parameters=1234,
        tokens=5678,
        seconds=61.0,
        world_size=1,
        batch_size_per_device=64,
        straggler_fraction=None,
        step=1,
        best_step=1,
        best_epoch=0,
    )
    write_summary(path / "summary.json", summary)
    return path


def use_client(monkeypatch: pytest.MonkeyPatch, hub: UploadHub, home: Path, token: str | None = TOKEN) -> None:
    """Let the client in this process use the loopback Hub: it reads these variables when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
