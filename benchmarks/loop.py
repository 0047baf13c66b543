"""Overhead of the training loop: the real program (Lightning, callbacks, `metrics.csv`, W&B offline) over a bare loop.

One run of the program trains; after each block of steps a callback trains another model of the same kind on the same
batches in a bare loop, with the same optimizer, schedule and clipping. So blocks alternate in one process, and the two
blocks of a pair are seconds apart. Validation likewise.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from models import model_config
from report import Claim, Report, Table
from reviews import data_config, open_store
from settings import Settings
from textrnn.base import exits as exits
from textrnn.base.process import keep_freed_memory
from textrnn.base.signals import Signals
from textrnn.config.schema import Config, EarlyStoppingConfig, TrackingConfig, TrainerConfig
from textrnn.data.batches import Batch
from textrnn.distributed.launch import Launch
from textrnn.distributed.ranks import Ranks
from textrnn.model.classifier import ReviewClassifier, learning_rate_factor
from textrnn.model.loss import review_losses, training_loss
from textrnn.training import fit as fitting
from textrnn.training import run as training
from timing import Stopwatch, ratios

STEPS, WARM_UP = 64, 10
"""Five blocks and the warm-up stay within an epoch of IMDB, so that no block holds an epoch's end."""


def run(settings: Settings, report: Report) -> None:
    """Measure and fill in the report."""
    keep_freed_memory()
    quick = settings.quick
    steps, warm_up = (4, 2) if quick else (STEPS, WARM_UP)
    config = Config(
        model=model_config("gru", 16 if quick else 128),
        data=data_config(settings.data_path, quick=quick, **({"batch_size": 8} if quick else {})),
        early_stopping=EarlyStoppingConfig(patience=None),
        tracking=TrackingConfig(mode="offline"),
        trainer=TrainerConfig(accelerator="cpu", devices=1, enable_checkpointing=False),
        test=False,
    )
    bare = BareLoop(config, open_store(config.data).vocab_size, warm_up + settings.repeats * steps)
    blocks = _Blocks(bare, steps, warm_up)
    run_program(config, blocks, max_steps=blocks.warm_up + settings.repeats * steps, limit_val_batches=0)
    validations = _Validations(bare)
    run_program(config, validations, max_epochs=settings.repeats + 1, limit_train_batches=1)
    table = Table(title=f"blocks of {steps} training steps, whole validations", unit="s")
    for stage, program, alone in (
        ("training", blocks.program, blocks.bare),
        ("validation", validations.program[1:], validations.bare[1:]),  # the first warms up
    ):
        table.add("program", stage, program)
        table.add("bare loop", stage, alone)
        name = f"{stage}: time of the program over a bare loop's"
        report.claims.append(Claim(name=name, values=ratios(program, alone), at_most=1.03))
    report.tables.append(table)


class BareLoop:
    """Training and validation of the program's model without the program."""

    def __init__(self, config: Config, vocab_size: int, total_steps: int) -> None:
        module = ReviewClassifier(config.model, config.optimizer, vocab_size=vocab_size, seed=config.seed)
        optimizer = config.optimizer
        self._model = module.model
        self._optimizer: torch.optim.Optimizer = cast(dict[str, Any], module.configure_optimizers())["optimizer"]
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: learning_rate_factor(
                step, warmup_steps=optimizer.warmup_steps, total_steps=total_steps, schedule=optimizer.schedule
            ),
        )
        self._clip = config.trainer.gradient_clip_val
        self._config = config.model

    def train(self, batches: list[Batch]) -> None:
        """Train one step on each batch."""
        for batch in batches:
            self._optimizer.zero_grad()
            loss = training_loss(self._model, batch, self._config).loss
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if self._clip is not None:
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
            self._optimizer.step()
            self._schedule.step()

    def validate(self, batches: list[Batch]) -> tuple[float, float]:
        """Return loss and accuracy."""
        loss = correct = reviews = torch.zeros(())
        self._model.eval()
        with torch.inference_mode():
            for batch in batches:
                logits = self._model(batch["token_ids"], batch["lengths"])
                loss = loss + review_losses(logits, batch["labels"], batch["weights"]).sum()
                correct = correct + ((logits > 0) == (batch["labels"] == 1)).sum()
                reviews = reviews + batch["weights"].sum()
        self._model.train()
        return float(loss / reviews), float(correct / reviews)


class _Blocks(pl.Callback):
    """Time a block of the program's steps, then the bare loop on the same batches, and so on."""

    def __init__(self, bare: BareLoop, steps: int, warm_up: int) -> None:
        self._bare_loop, self._steps, self.warm_up = bare, steps, warm_up
        self._batches: list[Batch] = []
        self._started = 0.0
        self.program: list[float] = []
        self.bare: list[float] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 - Lightning passes it
        outputs: Any,  # noqa: ARG002 - as above
        batch: Batch,
        batch_idx: int,  # noqa: ARG002 - as above
    ) -> None:
        """The time between the ends of two steps includes all costs of the steps between: batches, hooks, logging."""
        self._batches.append(batch)
        done = trainer.global_step - self.warm_up
        if done < 0 or done % self._steps != 0:
            return
        elapsed = time.perf_counter() - self._started
        with Stopwatch() as watch:
            self._bare_loop.train(self._batches)
        if done > 0:
            self.program.append(elapsed)
            self.bare.append(watch.seconds)
        self._batches = []
        self._started = time.perf_counter()


class _Validations(pl.Callback):
    """Time each of the program's validations, then the bare loop on the same batches."""

    def __init__(self, bare: BareLoop) -> None:
        self._bare_loop = bare
        self._batches: list[Batch] = []
        self.program: list[float] = []
        self.bare: list[float] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - as above
        """Lightning has no hook around all of a validation, so its loop is wrapped."""
        loop = trainer.fit_loop.epoch_loop.val_loop
        validate: Callable[[], Any] = loop.run

        def timed() -> Any:
            self._batches = []
            with Stopwatch() as watch:
                result = validate()
            self.program.append(watch.seconds)
            with Stopwatch() as watch:
                self._bare_loop.validate(self._batches)
            self.bare.append(watch.seconds)
            return result

        loop.run = timed  # type: ignore[method-assign]  # to time what the trainer calls

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, *place: int) -> None:  # noqa: ARG002 - as above
        """Keep the batch for the bare loop."""
        self._batches.append(batch)


def run_program(config: Config, watching: pl.Callback, **trainer: Any) -> None:
    """Run `python train.py` with one more callback."""

    class Watched(ReviewClassifier):
        def configure_callbacks(self) -> list[pl.Callback]:
            return [watching]

    with TemporaryDirectory() as folder, patch.object(fitting, "ReviewClassifier", Watched):
        watched = replace(config, run_dir=f"{folder}/run", trainer=replace(config.trainer, **trainer))
        code = training.run(watched, ["benchmarks/run.py", "loop"], Ranks(Launch()), Signals())
    if code != exits.DONE:
        raise RuntimeError(f"the program ended with exit code {code}; what it says is above")
