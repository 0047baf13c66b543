"""Small networks with random weights, without training."""

from typing import Any

import torch

from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.model.network import TextClassifier

VOCABULARY = 30


def network_of(classes: int = 2, *, many_labels: bool = False, **settings: Any) -> tuple[TextClassifier, ModelConfig]:
    """A small network whose weights, biases and initial states are all random."""
    small: dict[str, Any] = {"hidden_size": 6, "embedding": EmbeddingConfig(size=5)}
    config = ModelConfig(**(small | settings))
    torch.manual_seed(0)
    network = TextClassifier(config, VOCABULARY, classes=classes, many_labels=many_labels).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        if network.embedding.bigrams is not None:
            network.embedding.bigrams.table.weight[0] = 0
    return network, config
