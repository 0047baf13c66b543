"""What values must satisfy, alone and together, before anything is read, downloaded or written."""

import importlib.util
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from textrnn import config as names
from textrnn.check_model import check_model, check_one_hot
from textrnn.check_values import at_least, finite, named, one_of, optional_one_of
from textrnn.check_vectors import check_vectors
from textrnn.cluster.launch import Launch, check_layout, sees_own_gpu_only
from textrnn.config import (
    Config,
    DataConfig,
    OptimizerConfig,
    TrackingConfig,
    TrainerConfig,
)
from textrnn.cores import available_cores
from textrnn.errors import InputError
from textrnn.typed_path import typed_path

_PRECISIONS = ("16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true", "64", "32", "16", "bf16")
_PROFILERS = ("simple", "advanced", "pytorch")
_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
_MANY_PROCESSES_A_CORE = 2


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
    one_of("tracking.mode", config.tracking.mode, names.TRACKING_MODES)
    optional_one_of("tracking.watch", config.tracking.watch, names.WATCHES)
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


def check_devices(trainer: TrainerConfig, launch: Launch) -> None:
    """Checks the devices asked for against those that are there; imports torch if it has to ask.

    Raises:
        InputError: for more GPUs than are visible, more than two processes a core, or what contradicts the launcher.
    """
    check_layout(trainer, launch)
    if trainer.accelerator in ("auto", "cpu") and trainer.devices in ("auto", -1, 1) and not launch.is_external:
        return
    if trainer.accelerator == "cpu" and launch.is_external:
        return  # as many as the launcher was told to start
    import torch

    gpus = torch.cuda.device_count()
    wanted = trainer.devices
    if launch.is_external and 0 < gpus < launch.local_world_size and not sees_own_gpu_only(trainer, launch):
        raise InputError(
            f"{launch.by} has started {launch.local_world_size} processes on {socket.gethostname()}, where {gpus} "
            "GPU(s) are visible: start one process a GPU, or type trainer.accelerator=cpu."
        )
    numbers = wanted if isinstance(wanted, list) else []
    count = len(numbers) if numbers else wanted if isinstance(wanted, int) else None
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and gpus > 0)
    if trainer.accelerator in ("gpu", "cuda") and gpus == 0:
        raise InputError("trainer.accelerator=gpu: no GPU is visible here; type trainer=cpu.")
    if on_gpu:
        if (count is not None and count > gpus) or any(number >= gpus for number in numbers):
            raise InputError(f"trainer.devices={wanted}: {gpus} GPU(s) are visible here; type trainer.devices={gpus}.")
    elif trainer.accelerator in ("auto", "cpu") and count is not None:
        cores = available_cores()
        if count > _MANY_PROCESSES_A_CORE * cores:
            raise InputError(
                f"trainer.devices={wanted}: more than two processes a core on {cores} core(s); "
                f"type trainer.devices={cores} or less."
            )


def _check_data(data: DataConfig) -> None:
    one_of("data.source", data.source, names.DATA_SOURCES)
    one_of("data.tokenizer", data.tokenizer, names.TOKENIZERS)
    if data.tokenizer == "spacy" and importlib.util.find_spec("spacy") is None:
        raise InputError(
            'data.tokenizer=spacy is not installed here; type pip install "textrnn[spacy]", or data.tokenizer=word.'
        )
    one_of("data.truncate", data.truncate, names.TRUNCATIONS)
    at_least("data.max_length", data.max_length, 1)
    at_least("data.batch_size", data.batch_size, 1)
    at_least("data.eval_batch_size", data.eval_batch_size, 1)
    at_least("data.segment_size", data.segment_size, 1)
    # A word vocabulary needs a word beside padding and unknown.
    at_least("data.vocab_size", data.vocab_size, names.SMALLEST_BPE if data.tokenizer == "bpe" else 3)
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
    one_of("optimizer.schedule", optimizer.schedule, names.SCHEDULES)
    if len(optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in optimizer.betas):
        raise InputError(f"optimizer.betas={optimizer.betas}: two numbers from 0 to below 1; type [0.9,0.999].")


def _check_early_stopping(config: Config) -> None:
    stopping = config.early_stopping
    one_of("early_stopping.monitor", stopping.monitor, names.EARLY_STOPPING_MONITORS)
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


def differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    """The dotted keys in which two configurations of the same class differ."""
    found: list[str] = []
    for item in fields(first):
        left, right = getattr(first, item.name), getattr(second, item.name)
        if hasattr(left, "__dataclass_fields__"):
            found += differences(left, right, f"{prefix}{item.name}.")
        elif left != right:
            found.append(f"{prefix}{item.name}")
    return found
