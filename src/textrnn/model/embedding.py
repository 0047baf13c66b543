"""Embedding of token ids: the tables of vectors of words and of hashed bigrams, and their dropouts."""

import torch
from torch import Tensor, nn

from textrnn.config.schema import PAD_ID, UNK_ID, ModelConfig
from textrnn.model.dropout import Dropout

INITIAL_STD = 0.01
"""Standard deviation of random initial vectors. Rare words keep theirs, which is noise to the model: with 0.1 the loss
of a GRU on IMDB was 0.52 after 240 steps, with 0.01 it was 0.46."""


class TokenEmbedding(nn.Module):
    """A vector for each token, with dropout of words and of components in training.

    With `embedding.bigrams` it is the sum of the word's vector and of that of the bigram that ends there; see
    `HashedBigrams`. Each has its own dropouts.

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
        self.bigrams = HashedBigrams(config) if config.embedding.bigrams > 0 else None

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the vectors of tokens.

        Args:
            token_ids: (batch, time) int64, padded with 0.

        Returns:
            (batch, time, size), 0 at padding.

        """
        words = token_ids
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(token_ids.shape, device=token_ids.device) < self.word_dropout
            words = token_ids.masked_fill(dropped & (token_ids != PAD_ID), UNK_ID)
        # Looked up time-major, as the recurrent kernels read them; a transpose of ids costs nothing.
        vectors: Tensor = self.dropout(self.table(words.T))
        if self.bigrams is not None:
            vectors = vectors + self.bigrams(token_ids.T)
        return vectors.transpose(0, 1)


class HashedBigrams(nn.Module):
    """A vector for each pair of adjacent tokens, from a table whose rows the pairs share by a hash.

    In training a pair is dropped whole with `embedding.bigram_word_dropout`, else components of its vector with
    `embedding.bigram_dropout`. The vectors begin as zeros: a pair that training has never seen, and with it none of the
    pairs of its row, adds nothing.

    Args:
        config: The model.

    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.whole = config.embedding.bigram_word_dropout
        self.table = nn.Embedding(config.embedding.bigrams, config.embedding.size, padding_idx=0)
        nn.init.zeros_(self.table.weight)
        self.dropout = Dropout(config.embedding.bigram_dropout, shared=0 if config.variational_dropout else None)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the vectors of the bigrams that end at each token.

        Args:
            token_ids: (time, batch) int64, padded with 0.

        Returns:
            (time, batch, size), 0 at the first token and at padding.

        """
        rows = bigram_rows(token_ids, self.table.num_embeddings)
        if self.training and self.whole > 0:
            rows = rows.masked_fill(torch.rand(rows.shape, device=rows.device) < self.whole, 0)
        vectors: Tensor = self.dropout(self.table(rows))
        return vectors


def bigram_rows(token_ids: Tensor, rows: int) -> Tensor:
    """Return the row of the bigram that ends at each token: from 1 to rows - 1, or 0 where there is none.

    The hash, in unsigned integers of 32 bits: h = 1000003 * previous + current, h ^= h >> 16,
    h *= 0x45d9f3b, h ^= h >> 16; the row is 1 + h % (rows - 1).

    Args:
        token_ids: (time, batch) int64, padded with 0 at the end.
        rows: Rows of the table, at least 2.

    Returns:
        (time, batch) int64, 0 at the first token and at padding.

    """
    bits = 0xFFFFFFFF
    mixed = (1_000_003 * token_ids[:-1] + token_ids[1:]) & bits
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & bits
    mixed = (mixed ^ (mixed >> 16)) % (rows - 1) + 1
    return torch.cat((torch.zeros_like(token_ids[:1]), mixed.masked_fill(token_ids[1:] == PAD_ID, 0)))


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
