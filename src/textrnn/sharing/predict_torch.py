"""Label texts with an exported model: needs torch and tokenizers, nothing else.

python predict.py "A fine film." "I wanted to like it."
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).resolve().parent


class Classifier(nn.Module):
    """Embedding -> recurrent layers -> pooling -> logits; the parameters have torch's own names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = model = config["model"]
        self.embedding = nn.Embedding(config["vocab_size"], model["embedding_size"], padding_idx=config["padding_id"])
        self.bigrams = (
            nn.Embedding(model["bigrams"], model["embedding_size"], padding_idx=0) if model["bigrams"] else None
        )
        options = {"nonlinearity": model["nonlinearity"]} if model["cell"] == "rnn" else {}
        self.layers = getattr(nn, model["cell"].upper())(
            model["embedding_size"],
            model["hidden_size"],
            model["num_layers"],
            bidirectional=model["bidirectional"],
            bias=model["bias"],
            batch_first=True,
            **options,
        )
        directions = 1 + model["bidirectional"]
        parts = 2 if model["cell"] == "lstm" else 1
        shape = (parts, model["num_layers"] * directions, 1, model["hidden_size"])
        self.initial = nn.Parameter(torch.zeros(shape))
        features = model["hidden_size"] * directions * (2 if model["pooling"] == "max_mean" else 1)
        classes = len(config["classes"])
        one_logit = classes == 2 and config["labels_per_text"] == "one"
        self.output = nn.Linear(features, 1 if one_logit else classes)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits, (batch,) for two classes and else (batch, classes).

        Args:
            token_ids: (batch, time) int64, padded.
            lengths: (batch,) int64, each from 1 to time.
        """
        vectors = self.embedding(token_ids)
        if self.bigrams is not None:
            vectors = vectors + self.bigrams(bigram_rows(token_ids, self.bigrams.num_embeddings))
        steps = pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        begin = [part.expand(-1, len(lengths), -1).contiguous() for part in self.initial]
        states, end = self.layers(steps, tuple(begin) if len(begin) == 2 else begin[0])
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=token_ids.shape[1])
        end = end[0] if isinstance(end, tuple) else end
        padding = (torch.arange(token_ids.shape[1], device=lengths.device) >= lengths[:, None])[..., None]
        directions = 1 + self.config["bidirectional"]
        pooled: dict[str, Callable[[], Tensor]] = {
            "last": lambda: end[-directions:].transpose(0, 1).flatten(1),
            "max": lambda: states.masked_fill(padding, -torch.inf).amax(1),
            "mean": lambda: states.masked_fill(padding, 0).sum(1) / lengths[:, None],
        }
        kinds = self.config["pooling"].split("_")
        logits: Tensor = self.output(torch.cat([pooled[kind]() for kind in kinds], dim=1))
        return logits.squeeze(1) if logits.shape[1] == 1 else logits


def bigram_rows(token_ids: Tensor, rows: int) -> Tensor:
    """Return the hashed row of the bigram that ends at each token, (batch, time); 0 where there is none."""
    bits = 0xFFFFFFFF
    mixed = (1_000_003 * token_ids[:, :-1] + token_ids[:, 1:]) & bits
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & bits
    mixed = (mixed ^ (mixed >> 16)) % (rows - 1) + 1
    return torch.cat((torch.zeros_like(token_ids[:, :1]), mixed.masked_fill(token_ids[:, 1:] == 0, 0)), dim=1)


def load(folder: Path = HERE) -> Classifier:
    """Return the model in a folder, in evaluation mode."""
    classifier = Classifier(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    classifier.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    return classifier.eval()


def predict(texts: list[str]) -> list[dict[str, float]]:
    """Return the probability of each class by its name, for each text."""
    config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    found = [e.ids or [config["unknown_id"]] for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    most = config["max_length"]
    read = [torch.tensor(ids[:most] if config["truncate"] == "head" else ids[-most:]) for ids in found]
    token_ids = nn.utils.rnn.pad_sequence(read, batch_first=True, padding_value=config["padding_id"])
    with torch.inference_mode():
        logits = load()(token_ids, torch.tensor([len(ids) for ids in read])) / config["temperature"]
    second = logits.sigmoid()
    if config["labels_per_text"] == "many":
        shares = second
    else:
        shares = torch.stack((1 - second, second), 1) if logits.ndim == 1 else logits.softmax(1)
    return [dict(zip(config["classes"], row, strict=True)) for row in shares.tolist()]


if __name__ == "__main__":
    for text, probabilities in zip(sys.argv[1:], predict(sys.argv[1:]), strict=True):
        found: dict[str, object] = {"label": max(probabilities, key=lambda name: probabilities[name])}
        if json.loads((HERE / "config.json").read_text(encoding="utf-8"))["labels_per_text"] == "many":
            found = {"labels": [name for name, probability in probabilities.items() if probability > 0.5]}
        print(json.dumps({"text": text, **found, **probabilities}))
