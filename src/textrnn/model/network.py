"""The network: reviews in, logits out. Imports torch only, so that predictions don't wait for Lightning."""

import torch
from torch import Tensor, nn

from textrnn.config.schema import ModelConfig
from textrnn.model.dropout import Dropout
from textrnn.model.embedding import TokenEmbedding
from textrnn.model.encoder import Encoder
from textrnn.model.pooling import Pooling


class TextClassifier(nn.Module):
    """Embedding -> recurrent layers -> pooling -> logits.

    Args:
        config: The model.
        vocab_size: Tokens in the vocabulary, `<pad>` (0) and `<unk>` (1) included.
        vectors: (vocab_size, embedding size), initial values of the embedding; None: random.
        classes: Number of classes, at least two. Two have one logit, that of class 1; more have one each.
        many_labels: Whether a text may have several labels: each class has its logit, two classes too.

    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        vectors: Tensor | None = None,
        *,
        classes: int = 2,
        many_labels: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(config, vocab_size, vectors)
        self.encoder = Encoder(config, self.embedding.size)
        self.pooling = Pooling(config.pooling, bidirectional=config.bidirectional, implementation=config.implementation)
        self.dropout = Dropout(config.output_dropout)
        logits = 1 if classes == 2 and not many_labels else classes
        self.output = nn.Linear(self.pooling.output_size(self.encoder.output_size), logits)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits.

        Args:
            token_ids: (batch, time) int64, padded with 0.
            lengths: (batch,) int64, each from 1 to time.

        Returns:
            (batch,) for two classes, else (batch, classes); float64 for float64 parameters, else float32, also under
            half precision.

        """
        return self.classify(self.embedding(token_ids), lengths)

    def classify(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return logits from the tokens' vectors.

        Args:
            vectors: (batch, time, embedding size), 0 at padding.
            lengths: (batch,) int64, each from 1 to time.

        Returns:
            As `forward`.
        """
        states = self.encoder(vectors, lengths)
        logits: Tensor = self.output(self.dropout(self.pooling(states, lengths)))
        if self.output.out_features == 1:
            logits = logits.squeeze(1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the most probable class of each review, (batch,) int64, of logits (batch,) or (batch, classes)."""
    return (logits > 0).long() if logits.ndim == 1 else logits.argmax(dim=1)


def correct_reviews(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each review is classified correctly, (batch,) bool: with several labels a review, all of them.

    Args:
        logits: (batch,) or (batch, classes).
        labels: (batch,) class ids, or (batch, classes), 0 or 1.
    """
    if labels.ndim == 2:
        return ((logits > 0) == (labels > 0)).all(dim=1)
    return predicted_classes(logits) == labels


def class_probabilities(logits: Tensor, *, many_labels: bool = False) -> Tensor:
    """Return the probability of each class, (batch, classes) float64, of logits (batch,) or (batch, classes).

    One logit is that of class 1 of two. A NaN logit makes the probabilities of its review NaN. The probabilities of a
    review add up to 1, unless it may have several labels.
    """
    if many_labels:
        return logits.double().sigmoid()
    if logits.ndim == 1:
        second = logits.sigmoid().double()
        return torch.stack((1 - second, second), dim=1)
    return logits.double().softmax(dim=1)


def parameter_counts(model: TextClassifier) -> dict[str, int]:
    """Return the numbers of parameters: total, trainable, and of the parts embedding, recurrent and output."""
    parts: dict[str, nn.Module] = {"embedding": model.embedding, "recurrent": model.encoder, "output": model.output}
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"total": sum(counts.values()), "trainable": trainable, **counts}
