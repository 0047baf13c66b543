"""Checks of a whole configuration, before anything is read, downloaded or written; reads no data, imports no torch."""

import importlib.util
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.schema import (
    CELLS,
    DATA_SOURCES,
    EARLY_STOPPING_MONITORS,
    EMBEDDING_KINDS,
    IMPLEMENTATIONS,
    INITIAL_STATES,
    NONLINEARITIES,
    POOLINGS,
    RECURRENT_INITS,
    SCHEDULES,
    SMALLEST_BPE,
    TOKENIZERS,
    TRACKING_MODES,
    TRUNCATIONS,
    WATCHES,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrackingConfig,
    TrainerConfig,
)
from textrnn.config.vectors import check_vectors


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """The value is one of the choices."""
    if value not in choices:
        raise InputError(f"{key}={value}: must be one of {', '.join(choices)}.")


def optional_one_of(key: str, value: str | None, choices: Sequence[str]) -> None:
    """The value is null or one of the choices."""
    if value is not None:
        one_of(key, value, choices)


def at_least(key: str, value: float | None, least: float) -> None:
    """The value is null or not below the least."""
    if value is not None and not value >= least:
        raise InputError(f"{key}={value}: must be at least {least}; type for example {key}={default(key)}.")


def finite(key: str, value: float) -> None:
    """The value is a finite number."""
    if not math.isfinite(value):
        raise InputError(f"{key}={value}: must be a finite number; type for example {key}={default(key)}.")


def named(key: str, value: str) -> None:
    """The value is not empty."""
    if not value.strip():
        raise InputError(f"{key} is empty; type for example {key}={default(key)}.")


def default(key: str) -> Any:
    """The default of a dotted key, as an example of what to type."""
    value: Any = Config()
    for name in key.split("."):
        value = getattr(value, name)
    return "null" if value is None else value


_PRECISIONS = ("16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true", "64", "32", "16", "bf16")
_PROFILERS = ("simple", "advanced", "pytorch")
_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


def check(config: Config) -> None:
    """Checks a whole configuration; reads no data and asks no device.

    Raises:
        InputError: for the first value that can't be right, naming its key and what to type.
    """
    check_model(config.model)
    _check_run_dir(config.run_dir)
    check_vectors(config)
    _check_data(config.data)
    _check_data_path(config)
    check_one_hot(config)
    _check_optimizer(config.optimizer)
    _check_trainer(config.trainer)
    _check_early_stopping(config)
    if (
        config.optimizer.schedule != "constant"
        and config.trainer.max_epochs in (None, -1)
        and config.trainer.max_steps < 0
    ):
        raise InputError(
            f"optimizer.schedule={config.optimizer.schedule} decays to the last step, which is not known; type "
            "trainer.max_epochs or trainer.max_steps, or optimizer.schedule=constant."
        )
    one_of("tracking.mode", config.tracking.mode, TRACKING_MODES)
    optional_one_of("tracking.watch", config.tracking.watch, WATCHES)
    if config.tracking.watch is not None and config.tracking.mode == "none":
        raise InputError("tracking.watch sends histograms to W&B, which tracking=none leaves out; type tracking=auto.")
    if config.tracking.mode != "none":
        _check_project(config.tracking)
    at_least("tracking.mistakes", config.tracking.mistakes, 0)
    at_least("checkpoint.every_n_train_steps", config.checkpoint.every_n_train_steps, 1)
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: must be between 0 and 2**32 - 1; type for example seed=0.")
    if config.resume is not None and not config.resume.strip():
        raise InputError("resume is empty; type null, auto, or a run directory.")
    has_own = {"WANDB_SWEEP_ID", "SLURM_JOB_ID"} & set(os.environ)  # a run directory that follows from them
    if config.resume == "auto" and config.run_dir is None and not has_own:
        raise InputError("resume=auto continues run_dir, which is not given; type run_dir=DIR too.")
    if config.data.segment_size is not None and config.trainer.overfit_batches:
        raise InputError("trainer.overfit_batches repeats the same batches; it can't go with data.segment_size.")


def _check_data(data: DataConfig) -> None:
    one_of("data.source", data.source, DATA_SOURCES)
    one_of("data.tokenizer", data.tokenizer, TOKENIZERS)
    if data.tokenizer == "spacy" and importlib.util.find_spec("spacy") is None:
        raise InputError(
            'data.tokenizer=spacy is not installed here; type pip install "textrnn[spacy]", or data.tokenizer=word.'
        )
    one_of("data.truncate", data.truncate, TRUNCATIONS)
    at_least("data.max_length", data.max_length, 1)
    at_least("data.batch_size", data.batch_size, 1)
    at_least("data.eval_batch_size", data.eval_batch_size, 1)
    at_least("data.segment_size", data.segment_size, 1)
    # A word vocabulary needs a word beside padding and unknown.
    at_least("data.vocab_size", data.vocab_size, SMALLEST_BPE if data.tokenizer == "bpe" else 3)
    at_least("data.synthetic.train_reviews", data.synthetic.train_reviews, 100)
    at_least("data.synthetic.test_reviews", data.synthetic.test_reviews, 1)
    if not 0 <= data.synthetic.difficulty <= 1:
        raise InputError(
            f"data.synthetic.difficulty={data.synthetic.difficulty}: between 0 and 1; type for example 0.5."
        )
    for key in ("repo", "revision", "text_column", "label_column"):
        named(f"data.{key}", getattr(data, key))
    if data.text_column == data.label_column:
        raise InputError(f"data.text_column and data.label_column both name {data.text_column!r}; they must differ.")


def _check_data_path(config: Config) -> None:
    path = config.data.path
    if path is None or typed_path(path, f"data.path={path}").exists():
        return
    goes_on = config.resume is not None and config.run_dir is not None
    if goes_on and (Path(str(config.run_dir)) / "checkpoints" / "last.ckpt").is_file():
        return  # its reviews may be in the cache
    raise InputError(f"data.path={path}: there is no such file or folder; type one, or data=synthetic.")


def _check_run_dir(run_dir: str | None) -> None:
    if run_dir is None:
        return
    if not run_dir.strip():
        raise InputError("run_dir is empty; type a directory, or run_dir=null for runs/<stamp>-...")
    if (path := str(typed_path(run_dir, f"run_dir={run_dir}"))) != str(Path(run_dir)):
        raise InputError(f"run_dir={run_dir}: it is taken as it stands; type run_dir={path} for the one in your home.")


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    finite("optimizer.lr", optimizer.lr)
    if optimizer.lr <= 0:
        raise InputError(f"optimizer.lr={optimizer.lr}: must be above 0; type for example optimizer.lr=0.002.")
    finite("optimizer.weight_decay", optimizer.weight_decay)
    at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    at_least("optimizer.warmup_steps", optimizer.warmup_steps, 0)
    one_of("optimizer.schedule", optimizer.schedule, SCHEDULES)
    if len(optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in optimizer.betas):
        raise InputError(f"optimizer.betas={optimizer.betas}: two numbers from 0 to below 1; type [0.9,0.999].")


def _check_early_stopping(config: Config) -> None:
    stopping = config.early_stopping
    one_of("early_stopping.monitor", stopping.monitor, EARLY_STOPPING_MONITORS)
    at_least("early_stopping.patience", stopping.patience, 1)
    finite("early_stopping.min_delta", stopping.min_delta)
    at_least("early_stopping.min_delta", stopping.min_delta, 0)


def _check_trainer(trainer: TrainerConfig) -> None:
    one_of("trainer.accelerator", trainer.accelerator, _ACCELERATORS)
    one_of("trainer.strategy", trainer.strategy, _STRATEGIES)
    one_of("trainer.precision", str(trainer.precision), _PRECISIONS)
    optional_one_of("trainer.profiler", trainer.profiler, _PROFILERS)
    optional_one_of("trainer.gradient_clip_algorithm", trainer.gradient_clip_algorithm, ("norm", "value"))
    for key, kind, example in _TRAINER_KINDS:
        value = getattr(trainer, key)
        if not kind(value):
            raise InputError(f"trainer.{key}={value}: {example}.")
    for key, least in _TRAINER_LEAST.items():
        at_least(f"trainer.{key}", getattr(trainer, key), least)
    for key in ("use_distributed_sampler", "barebones"):
        if getattr(trainer, key):
            raise InputError(f"trainer.{key}=true is not possible here (conf/trainer/auto.yaml says why); type false.")
    if trainer.max_epochs in (None, -1) and trainer.max_steps == -1 and trainer.max_time is None:
        raise InputError("training would never end; type trainer.max_epochs, trainer.max_steps or trainer.max_time.")
    if trainer.max_time is not None and not re.fullmatch(r"\d{2}:\d{2}:\d{2}:\d{2}", trainer.max_time):
        raise InputError(f"trainer.max_time={trainer.max_time}: type DD:HH:MM:SS, such as 00:01:30:00.")
    examples = {"max_epochs": 3, "max_steps": 1000, "max_time": "00:01:30:00", "limit_train_batches": 100}
    for name, instead in examples.items():
        if str(limit := getattr(trainer, name)).strip("0:.") == "":
            raise InputError(
                f"trainer.{name}={limit}: nothing would be trained; type for example trainer.{name}={instead}."
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: Any) -> bool:
    return value is None or _is_count(value) or (isinstance(value, float) and 0.0 <= value <= 1.0)


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_count(item) for item in value)
    return value == "auto" or value == -1 or (_is_count(value) and value > 0)


_SHARE = "a number of batches (integer), or a share of them between 0.0 and 1.0"
_TRAINER_KINDS: Sequence[tuple[str, Callable[[Any], bool], str]] = (
    ("devices", _is_devices, "type auto, a number from 1, or a list of device numbers such as [0,1]"),
    ("fast_dev_run", lambda value: isinstance(value, bool) or _is_count(value), "type true, false or a number"),
    ("overfit_batches", lambda value: value is not None and _is_share(value), _SHARE),
    ("val_check_interval", lambda value: _is_share(value) and value != 0, _SHARE),
    ("deterministic", lambda value: value in (None, True, False, "warn"), "type true, false, warn or null"),
    *((f"limit_{stage}_batches", _is_share, _SHARE) for stage in ("train", "val", "test", "predict")),
)
_TRAINER_LEAST = {
    "num_nodes": 1,
    "max_epochs": -1,
    "min_epochs": 0,
    "max_steps": -1,
    "min_steps": 0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "reload_dataloaders_every_n_epochs": 0,
}


def _check_project(tracking: TrackingConfig) -> None:
    """Wherever the name comes from: W&B's server would only refuse it when the run starts."""
    key = "tracking.project" if tracking.project else "WANDB_PROJECT"
    project = tracking.effective_project()
    if not project.strip() or len(project) > 128 or any(character in "/\\#?%:" for character in project):
        raise InputError(
            f"{key}={project!r}: a W&B project's name has 1 to 128 characters, none of them / \\ # ? % or :; an entity "
            "is typed as tracking.entity=NAME."
        )


_MOST_ONE_HOT_GIB = 8


def check_model(model: ModelConfig) -> None:
    """Checks the keys of `model`, alone and together; see `checks.check`."""
    one_of("model.cell", model.cell, CELLS)
    one_of("model.pooling", model.pooling, POOLINGS)
    one_of("model.implementation", model.implementation, IMPLEMENTATIONS)
    one_of("model.initial_state", model.initial_state, INITIAL_STATES)
    one_of("model.nonlinearity", model.nonlinearity, NONLINEARITIES)
    if model.nonlinearity != "tanh" and model.cell != "rnn":
        raise InputError(
            f"model.nonlinearity={model.nonlinearity} is for model.cell=rnn, not {model.cell}; type model=rnn, or "
            "model.nonlinearity=tanh."
        )
    one_of("model.recurrent_init", model.recurrent_init, RECURRENT_INITS)
    one_of("model.embedding.kind", model.embedding.kind, EMBEDDING_KINDS)
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
