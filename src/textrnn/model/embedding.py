"""Embedding of token ids: the table of vectors and its dropouts."""

import torch
from torch import Tensor, nn

from textrnn.config.schema import PAD_ID, UNK_ID, ModelConfig
from textrnn.model.dropout import Dropout

INITIAL_STD = 0.01
"""Standard deviation of random initial vectors. Rare words keep theirs, which is noise to the model: with 0.1 the loss
of a GRU on IMDB was 0.52 after 240 steps, with 0.01 it was 0.46."""


class TokenEmbedding(nn.Module):
    """A vector for each token, with dropout of words and of components in training.

    Attributes:
        size: Components of a vector: `model.embedding.size`, or for `kind: onehot` the vocabulary's size.

    Args:
        config: The model.
        vocab_size: Tokens in the vocabulary, `<pad>` (0) and `<unk>` (1) included.
        vectors: (vocab_size, size), initial values. None: normal with standard deviation 0.01, also for
            `kind: vectors` when the values will be loaded from a checkpoint.

    """

    def __init__(self, config: ModelConfig, vocab_size: int, vectors: Tensor | None = None) -> None:
        super().__init__()
        self.word_dropout = config.word_dropout
        onehot = config.embedding.kind == "onehot"
        self.size = vocab_size if onehot else config.embedding.size
        self.table = _OneHot(vocab_size) if onehot else _table(config, vocab_size, vectors)
        # Vectors are looked up time-major: (time, batch, size).
        self.dropout = Dropout(config.embedding_dropout, shared=0 if config.variational_dropout else None)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the vectors of tokens.

        Args:
            token_ids: (batch, time) int64, padded with 0.

        Returns:
            (batch, time, size), 0 at padding.

        """
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(token_ids.shape, device=token_ids.device) < self.word_dropout
            token_ids = token_ids.masked_fill(dropped & (token_ids != PAD_ID), UNK_ID)
        # Looked up time-major, as the recurrent kernels read them; a transpose of ids costs nothing.
        vectors: Tensor = self.dropout(self.table(token_ids.T))
        return vectors.transpose(0, 1)


def _table(config: ModelConfig, vocab_size: int, vectors: Tensor | None) -> nn.Embedding:
    table = nn.Embedding(vocab_size, config.embedding.size, padding_idx=PAD_ID)
    with torch.no_grad():
        if vectors is None:
            nn.init.normal_(table.weight, std=INITIAL_STD)
        else:
            table.weight.copy_(vectors)
        table.weight[PAD_ID] = 0
    table.weight.requires_grad_(config.embedding.trainable)
    return table


class _OneHot(nn.Module):
    """One-hot vectors: a 1 at the token's id, 0 elsewhere and for padding; as many components as there are tokens.

    There are no parameters: the first layer's W_ih has a column for each token, which is that token's vector. An
    embedding of `size` components factorizes this matrix into two narrow ones.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        # Follows the model's type and device, as parameters do.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the vectors of ids of any shape, (..., vocab_size)."""
        assert isinstance(self.zero, Tensor)
        vectors = self.zero.new_zeros(*token_ids.shape, self.vocab_size)
        vectors.scatter_(-1, token_ids.unsqueeze(-1), 1.0)
        vectors[..., PAD_ID] = 0
        return vectors
