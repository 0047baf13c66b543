"""The typed schema of a run: what `conf/` may say, key by key.

Hydra composes the YAML files in `conf/` into a `Config`. The defaults here are those of `python train.py`; a test
holds them equal to the YAML. What single values and combinations must satisfy is in `checks.py`.
"""

import os
from dataclasses import dataclass, field, fields
from typing import Any

SPLITS = ("train", "validation", "test")
LABELS = ("negative", "positive")
PAD_ID, UNK_ID = 0, 1
"""Ids of the padding token and of the unknown token in every vocabulary."""
CELLS = ("rnn", "lstm", "gru")
POOLINGS = ("last", "mean", "max", "max_mean")
IMPLEMENTATIONS = ("auto", "compiled", "fused", "packed", "cell")
NONLINEARITIES = ("tanh", "relu")
INITIAL_STATES = ("zeros", "learned")
RECURRENT_INITS = ("orthogonal", "uniform")
EMBEDDING_KINDS = ("learned", "onehot", "vectors")
DATA_SOURCES = ("hub", "synthetic")
TOKENIZERS = ("word", "bpe", "keras", "spacy")
SMALLEST_BPE = 258  # tokens that byte-pair encoding starts from: padding, unknown and 256 bytes
TRUNCATIONS = ("head", "tail")
SCHEDULES = ("constant", "linear", "cosine")
TRACKING_MODES = ("auto", "online", "offline", "none")
WATCHES = ("gradients", "all")
EARLY_STOPPING_MONITORS = ("val/loss", "val/accuracy")


@dataclass(kw_only=True, slots=True)
class EmbeddingConfig:
    """How a token id becomes a vector."""

    kind: str = "learned"
    """learned: from random values; onehot: a 1 at the token's id, nothing to train; vectors: pretrained (`vectors`)."""
    size: int = 100
    """Length of a token's vector; without effect on one-hot vectors, which are as long as the vocabulary."""
    vectors: str | None = None
    """Pretrained vectors of length `size`: glove (GloVe 6B, 50 numbers, the extra `glove`), a text file in the format
    of GloVe or word2vec, NAME.npy with its words in NAME.txt, or hub:OWNER/REPO/FILE on the Hugging Face Hub."""
    trainable: bool = True
    """Whether training changes the vectors; one-hot vectors never change."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Embedding -> recurrent layers -> pooling -> logit."""

    cell: str = "gru"
    """rnn (Elman), lstm or gru."""
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    hidden_size: int = 128
    """Units of one layer in one direction."""
    num_layers: int = 1
    """Recurrent layers on top of each other."""
    bidirectional: bool = True
    """Also read each review from its last token to its first."""
    pooling: str = "max"
    """last: the state after the last token (of each direction); mean, max: over all tokens; max_mean: both, joined."""
    word_dropout: float = 0.2
    """Probability that a token is replaced by the unknown token in training."""
    embedding_dropout: float = 0.3
    """Probability that a component of a token's vector is set to 0 in training."""
    variational_dropout: bool = False
    """Whether embedding_dropout and dropout zero the same components for all of a review's tokens, as in Keras."""
    dropout: float = 0.3
    """Probability that a unit between two recurrent layers is set to 0 in training; with one layer it has no place."""
    output_dropout: float = 0.5
    """Probability that a component of the pooled review is set to 0 in training."""
    label_smoothing: float = 0.0
    """Share of a label that training spreads evenly over both classes (Szegedy et al. 2016): with 0.1 a positive
    review is one of 0.95. `train/loss` is the loss of these labels; validation and test read the labels as they are."""
    adversarial: float = 0.015
    """Adversarial training (Miyato et al. 2017): each training step also learns from its reviews with their vectors
    moved against the model, by this share of their length; takes twice the time. 0: off. `train/loss` is that of the
    reviews as they are."""
    nonlinearity: str = "tanh"
    """An rnn's activation: tanh or relu; lstm and gru have theirs."""
    bias: bool = True
    """Whether the recurrent layers have biases."""
    recurrent_init: str = "orthogonal"
    """Recurrent weights at the start: orthogonal (each gate's matrix), or uniform in +-1/sqrt(hidden_size)."""
    forget_bias: float = 1.0
    """Bias of the LSTM's forget gate at the start (Jozefowicz et al. 2015); none without `bias` or in other cells."""
    initial_state: str = "zeros"
    """The state before the first token: zeros, or learned (one vector a layer and direction)."""
    implementation: str = "auto"
    """How the recurrence is computed; all give the same numbers. auto: the fastest here; compiled: our C code on the
    processor; fused: torch's kernels on padded batches; packed: on packed ones; cell: a loop to be read."""


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """The generator behind `data=synthetic`."""

    train_reviews: int = 10000
    """Reviews of the training split, of which 10 % become the validation set."""
    test_reviews: int = 2000
    """Reviews of the test split."""
    difficulty: float = 0.5
    """0: short reviews, verdict at the end; 1: long ones, verdict far from it, more negation; between: a mixture."""
    seed: int = 0
    """Which reviews are generated; not the run's `seed`, so that all seeds see the same data."""


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where reviews come from and how they become batches."""

    source: str = "hub"
    """hub: the Hugging Face Hub; synthetic: the generator. `path` goes before both."""
    path: str | None = None
    """A local folder or parquet, csv or jsonl file to read instead of the Hub."""
    repo: str = "stanfordnlp/imdb"
    """The Hub's data set."""
    revision: str = "main"
    """Branch, tag or commit of `repo`."""
    text_column: str = "text"
    """Column that holds a review's text."""
    label_column: str = "label"
    """Column that holds 0 (negative) or 1 (positive)."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    tokenizer: str = "word"
    """word: lower-cased words and punctuation marks; bpe: byte-level byte-pair encoding; keras: lower-cased words
    without punctuation, as in keras.datasets.imdb; spacy: spaCy's rules for English, lower-cased (extra `spacy`)."""
    vocab_size: int = 30000
    """Tokens in the vocabulary at most, padding and unknown included."""
    max_length: int = 400
    """Tokens of a review that the model reads at most."""
    truncate: str = "tail"
    """Which end of a longer review is read: head (its first tokens) or tail (its last)."""
    batch_size: int = 64
    """Reviews in a step, over all devices."""
    eval_batch_size: int | None = None
    """The same in validation and test. null: twice `batch_size`."""
    segment_size: int | None = None
    """Training reviews on disk at a time, for a corpus larger than the disk; an epoch is one segment. null: all."""
    cache_dir: str | None = None
    """Where token stores are kept. null: $XDG_CACHE_HOME/textrnn, or ~/.cache/textrnn."""

    def effective_eval_batch_size(self) -> int:
        """Return `eval_batch_size`, or for null twice `batch_size`: nothing is kept there for a backward pass."""
        return 2 * self.batch_size if self.eval_batch_size is None else self.eval_batch_size


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), a linear warm-up and a decay."""

    lr: float = 2e-3
    """Learning rate after the warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay of weight matrices; biases and embeddings have none."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay rates of the moment estimates."""
    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly from 0."""
    schedule: str = "linear"
    """After the warm-up: constant, or linear or cosine decay to 0 at the last step."""


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """Which epoch is the best, and when to stop waiting for a better one."""

    monitor: str = "val/accuracy"
    """The metric that chooses `best.ckpt` and stops training: val/accuracy or val/loss."""
    patience: int | None = 3
    """Validations without improvement until training stops. null: never."""
    min_delta: float = 0.0
    """The smallest change that counts as an improvement."""


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """When `last.ckpt` is written besides the end of each epoch."""

    every_n_train_steps: int | None = None
    """Also every so many steps. null: only at the end of an epoch."""


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """Plain-valued arguments of `lightning.pytorch.Trainer`, by their own names and with their own meaning.

    Documentation: https://lightning.ai/docs/pytorch/stable/common/trainer.html. Loggers, callbacks, plugins and
    `default_root_dir` are the project's to set.
    """

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    precision: Any = "32-true"
    fast_dev_run: Any = False
    max_epochs: int | None = 3
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | None = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    overfit_batches: Any = 0.0
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = 0
    log_every_n_steps: int = 50
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = 1.0
    gradient_clip_algorithm: str | None = "norm"
    deterministic: Any = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = False
    profiler: str | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    enable_autolog_hparams: bool = True
    model_registry: str | None = None


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Where a run is recorded besides its run directory."""

    mode: str = "auto"
    """auto: online with an account and a server that answers, else offline; online; offline; none: no W&B at all."""
    project: str | None = None
    """W&B project. null: WANDB_PROJECT, or textrnn."""
    entity: str | None = None
    """W&B user or team. null: WANDB_ENTITY, or the account's default."""
    name: str | None = None
    """Name of the run. null: WANDB_NAME, or made of cell, size and seed, such as `gru-128x1-bi s0`."""
    group: str | None = None
    """Group of the run. null: WANDB_RUN_GROUP, or none, and under -m one for all jobs."""
    job_type: str | None = None
    """W&B job type. null: WANDB_JOB_TYPE, or train."""
    tags: list[str] = field(default_factory=list)
    """W&B tags. []: those of WANDB_TAGS."""
    notes: str | None = None
    """A sentence on why this run was made. null: WANDB_NOTES."""
    watch: str | None = None
    """Histograms in W&B: gradients, or all (parameters too). null: none."""
    mistakes: int = 50
    """Most confident mistakes that a finished run lists, with the reviews' texts, in its directory and in W&B; online,
    these texts leave the machine. 0: none."""
    artifact: bool = True
    """Whether a finished run's best checkpoint, with configuration and tokenizer, goes to W&B as a model artifact;
    offline it waits for `wandb sync`."""

    def effective_project(self) -> str:
        """Return the W&B project: `project`, WANDB_PROJECT, or textrnn."""
        return self.project or os.environ.get("WANDB_PROJECT") or "textrnn"


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that makes a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0
    """Seeds the parameters, the order of reviews and the dropout; 0 is a seed like any other."""
    test: bool = True
    """Whether to end with the test set; sweeps that select a setting say false."""
    run_dir: str | None = None
    """Directory of the run. null: runs/<stamp>-<cell>-s<seed>-<id>."""
    resume: str | None = None
    """null: start; auto: continue `run_dir` if it holds a checkpoint; RUN: continue that run directory."""


@dataclass(kw_only=True, slots=True)
class LauncherConfig:
    """What `hydra/launcher=slurm` asks SLURM for, job by job; explained in `conf/hydra/launcher/slurm.yaml`."""

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
