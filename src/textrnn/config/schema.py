"""The typed schema of a run: every key with its type, default and allowed values.

Hydra composes the YAML files in `conf/`, which explain the keys, into a `Config`. The defaults here are those of
`python train.py`; a test holds them equal to the YAML. `checks.py` checks the allowed values and the combinations.
"""

import os
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from textrnn.config.rules import (
    BATCHES,
    DEVICES,
    TIME,
    TIMES,
    are_betas,
    are_classes,
    are_devices,
    are_texts,
    choice,
    is_count,
    is_delimiter,
    is_share,
    number,
    probability,
    rule,
    text,
)

SPLITS = ("train", "validation", "test")
UNLABELLED = "unlabelled"
ALL_SPLITS = (*SPLITS, UNLABELLED)
"""With the split of reviews without labels, which is there with `data.unlabelled`."""
LABELS = ("negative", "positive")
PAD_ID, UNK_ID = 0, 1
"""Ids of the padding token and of the unknown token in every vocabulary."""
SMALLEST_BPE = 258
"""Tokens that byte-pair encoding starts from: padding, unknown and 256 bytes."""
LISTS_OF_TEXTS = ("data.path", "data.text_column", "data.label_column")
"""Keys of one text or a list of texts."""
CELLS = ("rnn", "lstm", "gru")
POOLINGS = ("last", "mean", "max", "max_mean")
IMPLEMENTATIONS = ("auto", "compiled", "fused", "packed", "cell")
TRACKERS = ("trackio", "tensorboard")
"""Values of `tracking.mode` that are trackers other than W&B, each with an extra of this name."""
OBJECTIVES = ("classification", "language_model")
MONITORS = {"classification": ("val/loss", "val/accuracy"), "language_model": ("val/loss", "val/perplexity")}
"""The metrics that may choose the best epoch, by objective."""
EARLY_STOPPING_MONITORS = ("val/loss", "val/accuracy", "val/perplexity")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
PRECISIONS = ("auto", "16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true", "64", "32", "16", "bf16")


@dataclass(kw_only=True, slots=True)
class EmbeddingConfig:
    """Embedding of token ids."""

    kind: str = choice("learned", ("learned", "onehot", "vectors"))
    size: int = number(100, at_least=1)
    vectors: str | None = None
    trainable: bool = True
    bigrams: int = field(default=0, metadata=rule(lambda value: value == 0 or value >= 2, "0, or at least 2"))
    bigram_dropout: float = probability(0.5)
    bigram_word_dropout: float = probability(0.2)


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Embedding -> recurrent layers -> pooling -> logit."""

    cell: str = choice("gru", CELLS)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    hidden_size: int = number(128, at_least=1)
    num_layers: int = number(1, at_least=1)
    bidirectional: bool = True
    pooling: str = choice("max", POOLINGS)
    word_dropout: float = probability(0.2)
    embedding_dropout: float = probability(0.3)
    variational_dropout: bool = False
    dropout: float = probability(0.3)
    output_dropout: float = probability(0.5)
    label_smoothing: float = number(0.0, at_least=0, below=1)
    adversarial: float = number(0.015, at_least=0, below=1)
    adversarial_every: int = number(1, at_least=1)
    virtual_adversarial: float = number(0.0, at_least=0, below=1)
    nonlinearity: str = choice("tanh", ("tanh", "relu"))
    bias: bool = True
    recurrent_init: str = choice("orthogonal", ("orthogonal", "uniform"))
    forget_bias: float = number(1.0)
    initial_state: str = choice("zeros", ("zeros", "learned"))
    pretrained: str | None = text(None)
    implementation: str = choice("auto", IMPLEMENTATIONS)


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """The generator behind `data=synthetic`."""

    train_reviews: int = number(10000, at_least=100)
    test_reviews: int = number(2000, at_least=1)
    unlabelled_reviews: int = number(10000, at_least=1)
    difficulty: float = number(0.5, at_least=0, at_most=1)
    classes: int = number(2, at_least=2, at_most=8)
    seed: int = 0


@dataclass(kw_only=True, slots=True)
class SplitsConfig:
    """The Hub's splits that are read as ours; all None: they are found by their names."""

    train: str | None = text(None)
    validation: str | None = text(None)
    test: str | None = text(None)
    unlabelled: str | None = text(None)


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Source of the reviews, tokenizer and batches."""

    source: str = choice("hub", ("hub", "synthetic"))
    path: Any = field(
        default=None,
        metadata=rule(lambda value: value is None or are_texts(value), "a path, a list of paths, or null"),
    )
    delimiter: str | None = field(
        default=None, metadata=rule(is_delimiter, "a single character, tab, or null to find it by looking")
    )
    encoding: str = text("utf-8")
    repo: str = text("stanfordnlp/imdb")
    revision: str = text("main")
    config: str | None = text(None)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    unlabelled: bool = False
    text_column: Any = field(default="text", metadata=rule(are_texts, "a column's name, or a list of names"))
    label_column: Any = field(default="label", metadata=rule(are_texts, "a column's name, or a list of names"))
    labels_per_text: str = choice("one", ("one", "many"))
    classes: list[str] | None = field(
        default=None, metadata=rule(are_classes, "the names of two or more different classes, such as [ham,spam]")
    )
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    tokenizer: str = choice("word", ("word", "bpe", "keras", "spacy"))
    vocab_size: int = number(30000, at_least=3)  # padding, unknown and a word
    vocabulary_from: str = choice("train", ("train", "train_and_unlabelled"))
    max_length: int = number(400, at_least=1)
    truncate: str = choice("tail", ("head", "tail"))
    batch_size: int = number(64, at_least=1)
    eval_batch_size: int | None = number(None, at_least=1)
    unlabelled_batch_size: int = number(0, at_least=0)
    segment_size: int | None = number(None, at_least=1)
    cache_dir: str | None = None

    def text_columns(self) -> list[str]:
        """Return the columns whose texts are joined: `text_column` as a list."""
        return [self.text_column] if isinstance(self.text_column, str) else list(self.text_column)

    def label_columns(self) -> list[str]:
        """Return the columns of the labels: `label_column` as a list; each of several is of a class.

        An empty `label_column` stands for rows without labels.
        """
        columns = [self.label_column] if isinstance(self.label_column, str) else list(self.label_column)
        return [column for column in columns if column]

    def columns(self) -> list[str]:
        """Return the columns of texts and labels."""
        return [*self.text_columns(), *self.label_columns()]

    def many_labels(self) -> bool:
        """Return whether a text may have several labels, or none."""
        return self.labels_per_text == "many"

    def effective_eval_batch_size(self) -> int:
        """Return `eval_batch_size`, or for null twice `batch_size`, as evaluation keeps nothing for a backward pass."""
        return 2 * self.batch_size if self.eval_batch_size is None else self.eval_batch_size


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), a linear warm-up and a decay."""

    lr: float = number(2e-3, above=0)
    weight_decay: float = number(0.01, at_least=0)
    betas: list[float] = field(
        default_factory=lambda: [0.9, 0.999], metadata=rule(are_betas, "two numbers of at least 0 and below 1")
    )
    warmup_steps: int = number(100, at_least=0)
    schedule: str = choice("linear", ("constant", "linear", "cosine"))
    average: float = probability(0.0)
    layer_decay: float = number(1.0, above=0, at_most=1)


@dataclass(kw_only=True, slots=True)
class PretrainingConfig:
    """The output of a language model, for `objective=language_model`."""

    tied: bool = True
    candidates: int = number(512, at_least=1)


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """The metric that chooses the best epoch, and when to stop without improvement."""

    monitor: str = choice("val/accuracy", EARLY_STOPPING_MONITORS)
    patience: int | None = number(3, at_least=1)
    min_delta: float = number(0.0, at_least=0)


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """When `last.ckpt` is written, besides the end of each epoch."""

    every_n_train_steps: int | None = number(None, at_least=1)


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """Plain-valued arguments of `lightning.pytorch.Trainer`, with their names and meanings.

    Documentation: https://lightning.ai/docs/pytorch/stable/common/trainer.html. The project sets loggers, callbacks,
    plugins, directories, samplers and the reloading of data; keys without effect on a run are left out.
    """

    accelerator: str = choice("auto", ("auto", "cpu", "gpu", "cuda", "mps", "tpu"))
    strategy: str = choice("auto", STRATEGIES)
    devices: Any = field(default="auto", metadata=rule(are_devices, DEVICES))
    num_nodes: int = number(1, at_least=1)
    precision: str = choice("32-true", PRECISIONS)
    fast_dev_run: Any = field(
        default=False,
        metadata=rule(lambda value: isinstance(value, bool) or is_count(value), "true, false or a number"),
    )
    max_epochs: int | None = number(3, at_least=-1)
    min_epochs: int | None = number(None, at_least=0)
    max_steps: int = number(-1, at_least=-1)
    min_steps: int | None = number(None, at_least=0)
    max_time: str | None = field(default=None, metadata=rule(lambda value: bool(TIME.fullmatch(value)), TIMES))
    limit_train_batches: Any = field(default=None, metadata=rule(is_share, BATCHES))
    limit_val_batches: Any = field(default=None, metadata=rule(is_share, BATCHES))
    limit_test_batches: Any = field(default=None, metadata=rule(is_share, BATCHES))
    overfit_batches: Any = field(
        default=0.0, metadata=rule(lambda value: value is not None and is_share(value), BATCHES)
    )
    val_check_interval: Any = field(default=None, metadata=rule(lambda value: value != 0 and is_share(value), BATCHES))
    check_val_every_n_epoch: int | None = number(1, at_least=1)
    num_sanity_val_steps: int | None = number(0, at_least=-1)
    log_every_n_steps: int = number(50, at_least=1)
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: int = number(1, at_least=1)
    gradient_clip_val: float | None = number(1.0, at_least=0)
    gradient_clip_algorithm: str | None = choice("norm", ("norm", "value"))
    deterministic: Any = field(
        default=None, metadata=rule(lambda value: value in (None, True, False, "warn"), "true, false, warn or null")
    )
    benchmark: bool | None = None
    inference_mode: bool = True
    profiler: str | None = choice(None, ("simple", "advanced", "pytorch"))
    detect_anomaly: bool = False


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Tracking in W&B or another tracker, and the record of mistakes."""

    mode: str = choice("auto", ("auto", "online", "offline", "none", *TRACKERS))
    project: str | None = None
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    watch: str | None = choice(None, ("gradients", "all"))
    mistakes: int = number(50, at_least=0)
    artifact: bool = True
    registry: str | None = None

    def effective_project(self) -> str:
        """Return the W&B project: `project`, WANDB_PROJECT, or textrnn."""
        return self.project or os.environ.get("WANDB_PROJECT") or "textrnn"


@dataclass(kw_only=True, slots=True)
class Config:
    """The complete configuration of a run."""

    objective: str = choice("classification", OBJECTIVES)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = number(0, at_least=0, below=2**32)
    test: bool = True
    run_dir: str | None = text(None)
    resume: str | None = text(None)


@dataclass(kw_only=True, slots=True)
class LauncherConfig:
    """Resources per job for `hydra/launcher=slurm`; explained in `conf/hydra/launcher/slurm.yaml`."""

    name: str = "textrnn"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 240
    signal_delay_s: int = 120
    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int = 1
    cpus_per_task: int = 2
    mem_gb: float = 8
    array_parallelism: int = 256
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield each single value of a configuration: its dotted key, its field and the value."""
    for item in fields(config):
        key, value = f"{prefix}{item.name}", getattr(config, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, item, value


def differences(first: Any, second: Any) -> list[str]:
    """Return the dotted keys in which two configurations of the same class differ."""
    pairs = zip(leaves(first), leaves(second), strict=True)
    return [key for (key, _, left), (_, _, right) in pairs if left != right]
