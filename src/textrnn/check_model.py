"""What the model's keys must satisfy; reads no vectors and imports no torch."""

from textrnn import config as names
from textrnn.check_values import at_least, finite, one_of
from textrnn.config import Config, ModelConfig
from textrnn.errors import InputError

_MOST_ONE_HOT_GIB = 8


def check_model(model: ModelConfig) -> None:
    """Checks the keys of `model`, alone and together; see `checks.check`."""
    one_of("model.cell", model.cell, names.CELLS)
    one_of("model.pooling", model.pooling, names.POOLINGS)
    one_of("model.implementation", model.implementation, names.IMPLEMENTATIONS)
    one_of("model.initial_state", model.initial_state, names.INITIAL_STATES)
    one_of("model.nonlinearity", model.nonlinearity, names.NONLINEARITIES)
    if model.nonlinearity != "tanh" and model.cell != "rnn":
        raise InputError(
            f"model.nonlinearity={model.nonlinearity} is for model.cell=rnn, not {model.cell}; type model=rnn, or "
            "model.nonlinearity=tanh."
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
    if not 0 <= model.label_smoothing < 1:
        raise InputError(
            f"model.label_smoothing={model.label_smoothing}: at least 0 and below 1, where nothing is left of a label; "
            "type for example 0.1."
        )
    if not 0 <= model.adversarial < 1:
        raise InputError(
            f"model.adversarial={model.adversarial}: a share of the vectors' length, at least 0 (off) and below 1; "
            "type for example 0.015."
        )
    finite("model.forget_bias", model.forget_bias)


def check_one_hot(config: Config) -> None:
    """One-hot vectors are as wide as the vocabulary: a batch of them soon fills a machine."""
    if config.model.embedding.kind != "onehot":
        return
    data = config.data
    for key, reviews in (("batch_size", data.batch_size), ("eval_batch_size", data.effective_eval_batch_size())):
        gibibytes = reviews * data.max_length * data.vocab_size * 4 / 2**30
        if gibibytes > _MOST_ONE_HOT_GIB:
            raise InputError(
                f"model.embedding.kind=onehot: a batch of data.{key}={reviews} x data.max_length={data.max_length} x "
                f"data.vocab_size={data.vocab_size} numbers takes {gibibytes:.1f} GiB, more than {_MOST_ONE_HOT_GIB}; "
                "make one of the three smaller, or type model.embedding.kind=learned."
            )
