"""A checkpoint with the parts of `train.py`'s that are read, without training."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from textrnn.config.schema import LABELS, Config, DataConfig, EmbeddingConfig, ModelConfig
from textrnn.model.network import TextClassifier
from textrnn.training.checkpoints import FORMAT


def write_checkpoint(
    path: Path, tokenizer: Tokenizer, data: DataConfig | None = None, stored: dict[str, Any] | None = None
) -> Path:
    """Write an untrained tiny classifier of texts that `tokenizer` encodes; `stored` is its `Store.record`."""
    config = Config(model=ModelConfig(hidden_size=4, embedding=EmbeddingConfig(size=3)), data=data or DataConfig())
    vocab_size = tokenizer.get_vocab_size()
    stored = stored or {"classes": list(LABELS)}
    weights = TextClassifier(config.model, vocab_size, classes=len(stored["classes"])).state_dict()
    record = {
        "format": FORMAT,
        "config": asdict(config),
        "tokenizer": tokenizer.to_str(),
        "vocab_size": vocab_size,
        "identity": {},
        "data": stored,
        "coverage": {},
    }
    state_dict = {f"model.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": state_dict, "global_step": 1, "epoch": 0, "textrnn": record}, path)
    return path
