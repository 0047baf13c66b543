"""From token ids to vectors: the table, its dropouts, and pretrained vectors from a text file."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from textrnn.config import ModelConfig
from textrnn.errors import InputError
from textrnn.model.dropout import Dropout

PAD_ID = 0
UNK_ID = 1
INITIAL_STD = 0.01
"""Standard deviation of vectors that start random. Words too rare to learn keep theirs, which is noise to the model:
with 0.1 the loss of a GRU on IMDB stood at 0.52 after 240 steps, with 0.01 at 0.46."""

_log = logging.getLogger("textrnn")


class TokenEmbedding(nn.Module):
    """A vector for each token, with dropout of words and of components in training.

    Attributes:
        size: Components of a vector: `model.embedding.size`, or for `kind: onehot` the vocabulary's size.

    Args:
        config: The model.
        vocab_size: Tokens in the vocabulary, `<pad>` (0) and `<unk>` (1) included.
        vectors: (vocab_size, size) to start from. None: normal with standard deviation 0.01, also for
            `kind: vectors` when the values are about to come from a checkpoint.

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
        """Vectors of tokens.

        Args:
            token_ids: (batch, time) int64, padded with 0.

        Returns:
            (batch, time, size), 0 at padding.

        """
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(token_ids.shape, device=token_ids.device) < self.word_dropout
            token_ids = token_ids.masked_fill(dropped & (token_ids != PAD_ID), UNK_ID)
        # Looked up time-major, which is how the recurrent kernels read them; a transpose of ids costs nothing.
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
    """A 1 at the token's id, 0 elsewhere and for padding: no parameters, but as many components as there are tokens.

    The first layer's W_ih then has a column for each token, which is that token's vector; an embedding of `size`
    components says the same with a product of two narrow matrices.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        # Follows the model's type and device, as the parameters do that others have.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Ids of any shape -> (..., vocab_size)."""
        assert isinstance(self.zero, Tensor)
        vectors = self.zero.new_zeros(*token_ids.shape, self.vocab_size)
        vectors.scatter_(-1, token_ids.unsqueeze(-1), 1.0)
        vectors[..., PAD_ID] = 0
        return vectors


def load_vectors(path: str | Path, vocabulary: Sequence[str], size: int, *, seed: int = 0) -> Tensor:
    """Read the vocabulary's vectors from a text file, a word and `size` numbers a line (the format of GloVe).

    A first line "words size" (the format of word2vec) is skipped; of a word that comes twice the first line counts.
    Words that the file doesn't have get normal vectors with standard deviation 0.01, `<pad>` gets zeros.

    Args:
        path: The file.
        vocabulary: Tokens in the order of their ids.
        size: Numbers of a vector.
        seed: Of the random vectors.

    Returns:
        (len(vocabulary), size) float32.

    Raises:
        InputError: The file can't be read, a line is malformed, vectors have another size, or no word is known.

    """
    rows = {token.encode(): row for row, token in enumerate(vocabulary)}
    vectors = np.random.default_rng(seed).normal(0.0, INITIAL_STD, (len(vocabulary), size)).astype(np.float32)
    found: set[int] = set()
    try:
        # Bytes, not text: files of this kind hold words in broken encodings, which can't be in the vocabulary anyway.
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.rstrip().split(b" ")
                if number == 1 and _is_header(fields, path, size):
                    continue
                word = _checked_word(fields, path, number, size, first=not found and number <= 2)
                row = rows.get(word)
                if row is not None and row not in found:
                    vectors[row] = _numbers(fields[-size:], path, number)
                    found.add(row)
    except OSError as error:
        raise InputError(
            f"model.embedding.vectors={path} can't be read ({error.strerror}); give a text file with a word and"
            f" {size} numbers a line."
        ) from error
    if not found:
        raise InputError(
            f"model.embedding.vectors={path} has no vector for any of the {len(vocabulary)} tokens of the vocabulary;"
            " give a file of words, such as glove.6B.100d.txt, and use data.tokenizer=word."
        )
    vectors[PAD_ID] = 0
    _log.info("%s: vectors for %d of %d tokens (%.1f %%)", path, len(found), len(rows), 100 * len(found) / len(rows))
    return torch.from_numpy(vectors)


def _is_header(fields: list[bytes], path: str | Path, size: int) -> bool:
    """Whether the first line is word2vec's "words size"; with size 1 it could be a word like any other."""
    if size == 1 or len(fields) != 2 or not all(field.isdigit() for field in fields):
        return False
    _check_size(int(fields[1]), path, size)
    return True


def _checked_word(fields: list[bytes], path: str | Path, number: int, size: int, *, first: bool) -> bytes:
    """The word of a line; its numbers are only counted here, as most words of a file are not in the vocabulary."""
    if first and len(fields) > 2:
        _check_size(len(fields) - 1, path, size)
    # Some words of glove.840B contain spaces, such as ". . ."; more numbers than `size` are no such word.
    if len(fields) <= size or (len(fields) > size + 1 and _is_number(fields[-size - 1])):
        raise InputError(
            f"model.embedding.vectors={path}: line {number} is not a word and {size} numbers separated by spaces;"
            " repair or remove it."
        )
    return b" ".join(fields[:-size])


def _check_size(actual: int, path: str | Path, size: int) -> None:
    if actual != size:
        raise InputError(
            f"model.embedding.size={size}, but the vectors in model.embedding.vectors={path} have {actual} numbers;"
            f" type model.embedding.size={actual}, or give another file."
        )


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(fields: list[bytes], path: str | Path, number: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    if not all(_is_number(field) for field in fields) or not np.isfinite(values := np.array(fields, np.float32)).all():
        raise InputError(f"model.embedding.vectors={path}: line {number} holds something that is not a finite number.")
    return values
