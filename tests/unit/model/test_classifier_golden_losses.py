"""Losses of 20 training steps, step by step, as they were when `golden_losses.json` was written.

A change that is to leave the numbers alone leaves these alone. One that is to change them writes them anew and says
why: `python tests/unit/model/test_classifier_golden_losses.py`, with the names of cells only theirs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from textrnn.config.schema import CELLS, IMPLEMENTATIONS, EmbeddingConfig, ModelConfig, OptimizerConfig
from textrnn.model.classifier import ReviewClassifier
from textrnn.model.kernels.passes import CELLS as KERNELS

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS, VOCAB_SIZE = 20, 30


class Batches:
    """20 batches of 8 reviews of 1 to 12 tokens, labelled by a coin."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            lengths = torch.randint(1, 13, (8,), generator=generator)
            token_ids = torch.randint(2, VOCAB_SIZE, (8, int(lengths.max())), generator=generator)
            yield {
                "token_ids": token_ids.masked_fill(torch.arange(token_ids.shape[1]) >= lengths.unsqueeze(1), 0),
                "lengths": lengths,
                "labels": torch.randint(0, 2, (8,), generator=generator),
                "weights": torch.ones(8),
                "global_batch_size": 8,
            }


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.values.append(float(trainer.callback_metrics["train/loss"]))


ADVERSARIAL = {"plain": 0.0, "adversarial": 0.3}


def losses(cell: str, training: str, implementation: str = "cell") -> list[float]:
    """Losses of a small model in float64 without dropout."""
    model = ModelConfig(
        cell=cell,
        implementation=implementation,
        embedding=EmbeddingConfig(size=7),
        hidden_size=6,
        num_layers=2,
        pooling="max_mean",
        word_dropout=0.0,
        embedding_dropout=0.0,
        dropout=0.0,
        output_dropout=0.0,
        adversarial=ADVERSARIAL[training],
        initial_state="learned",
    )
    optimizer = OptimizerConfig(lr=0.01, warmup_steps=5, schedule="cosine")
    module = ReviewClassifier(model, optimizer, vocab_size=VOCAB_SIZE, seed=0).double()
    # Drawn in float64: the module's own draw is float32, whose QR decomposition rounds as the processor likes.
    draw = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(draw.uniform(-0.4, 0.4, tuple(parameter.shape))))
    history = Losses()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        precision="64-true",
        callbacks=[history],
        log_every_n_steps=1,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches(), Batches())  # without validation batches Lightning warns, asked for or not
    return history.values


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("training", ADVERSARIAL)
@pytest.mark.parametrize("cell", CELLS)
def test_losses_are_the_golden_ones(cell: str, training: str, implementation: str) -> None:
    if cell not in KERNELS and implementation not in ("auto", "cell"):
        pytest.skip(f"{cell} has no kernel")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[training].get(cell, [])
    assert golden, f"{cell} has no golden losses yet; type python tests/unit/model/{Path(__file__).name} {cell}"
    assert len(golden) == STEPS
    assert losses(cell, training, implementation) == pytest.approx(golden, rel=1e-9, abs=0)


if __name__ == "__main__":
    made = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for name in ADVERSARIAL:
        made[name] |= {cell: losses(cell, name) for cell in sys.argv[1:] or CELLS}
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
