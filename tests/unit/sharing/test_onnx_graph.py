"""An exported graph has the network's logits at any number of reviews and tokens."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from doubles.small_networks import VOCABULARY, network_of

from textrnn.config.schema import EmbeddingConfig
from textrnn.model.network import class_probabilities
from textrnn.sharing.onnx_graph import onnx_model


def reviews(count: int, time: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.randint(1, time + 1, (count,))
    lengths[0] = time
    token_ids = torch.randint(1, VOCABULARY, (count, time))
    return token_ids.masked_fill(torch.arange(time) >= lengths[:, None], 0), lengths


@pytest.mark.parametrize(
    "settings",
    [
        *({"cell": cell, "bidirectional": both, "num_layers": 2} for cell in ("rnn", "lstm", "gru") for both in (0, 1)),
        *({"pooling": pooling} for pooling in ("last", "mean", "max_mean")),
        {"pooling": "last", "bidirectional": False, "num_layers": 2},
        *({"cell": cell, "initial_state": "learned", "num_layers": 2} for cell in ("rnn", "lstm")),
        {"cell": "rnn", "nonlinearity": "relu"},
        {"bias": False},
        {"embedding": EmbeddingConfig(kind="onehot")},
        {"classes": 4},
        {"many_labels": True},
        {"embedding": EmbeddingConfig(size=5, bigrams=64)},
    ],
    ids=str,
)
def test_the_graph_has_the_logits_of_the_network(settings: dict[str, Any]) -> None:
    network, config = network_of(**settings)
    many = settings.get("many_labels", False)
    model = onnx_model(network, config, description="a test", many_labels=many, temperature=1.5)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count, time in ((1, 1), (5, 17)):
        token_ids, lengths = reviews(count, time)
        logits, probabilities = session.run(None, {"token_ids": token_ids.numpy(), "lengths": lengths.numpy()})
        with torch.inference_mode():
            expected = network(token_ids, lengths)
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(
            probabilities, class_probabilities(expected / 1.5, many_labels=many).numpy(), atol=1e-5
        )
