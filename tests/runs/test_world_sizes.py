"""The same mathematics whatever the number of processes: loss, gradient, clipping, evaluation.

Dropout is off: each process draws its own. What is left differs only in the order of sums, 1e-10 in float64.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.small_runs import VOCAB_SIZE, WITHOUT_DROPOUT, Batch, make_module, validate_on_ranks
from hypothesis import given
from hypothesis import strategies as st
from support import Command
from torch.nn.utils import get_total_norm

from textrnn.base.process import available_cores
from textrnn.data.batches import plan_epoch, shard_step
from textrnn.model.classifier import step_seed
from textrnn.model.loss import training_loss
from textrnn.model.network import predicted_classes

WITHOUT_DROPOUT_KEYS = (
    *("model.word_dropout=0", "model.embedding_dropout=0", "model.output_dropout=0"),
    *("model.embedding.bigram_dropout=0", "model.embedding.bigram_word_dropout=0"),
)
BATCH_SIZE, CLIP = 10, 0.1
"""With 201, 12 and 61 reviews, each split has a batch of one or two: at 4 processes, three or two have none of it."""
EXACT = (
    *("data=synthetic", "data.synthetic.train_reviews=213", "data.synthetic.test_reviews=61", "data.max_length=60"),
    *("model.hidden_size=8", "model.embedding.size=8", *WITHOUT_DROPOUT_KEYS, f"data.batch_size={BATCH_SIZE}"),
    *("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=64-true", "trainer.max_epochs=2"),
    *("trainer.log_every_n_steps=1", f"trainer.gradient_clip_val={CLIP}", "tracking=none"),
    *("optimizer.lr=0.02", "optimizer.warmup_steps=0", "model.adversarial=0.3", "model.label_smoothing=0.1"),
    *(
        "optimizer.average=0.8",
        "optimizer.layer_decay=0.5",
        "model.embedding.bigrams=50",
        "model.virtual_adversarial=0.3",
    ),
    *("data.unlabelled=true", "data.synthetic.unlabelled_reviews=50", "data.unlabelled_batch_size=7"),
)
TIMING = "train/tokens_per_second"


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def close(one: str, other: str, tolerance: float) -> bool:
    return one == other or abs(float(one) - float(other)) <= tolerance


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="the program refuses four processes on one core")
def test_every_world_size_trains_and_measures_the_same(script: Command, workplace: Path) -> None:
    # An epoch has 21 batches: ten steps of two and one of a single batch.
    for devices in (1, 2, 4):
        arguments = (f"trainer.devices={devices}", "trainer.accumulate_grad_batches=2", f"run_dir={devices}")
        done = script("train.py", *EXACT, *arguments, timeout=200)
        assert done.returncode == 0, done.stderr
        share = -(-BATCH_SIZE // devices)
        assert (f"{devices} processes, each with at most {share} of the 10 reviews" in done.stderr) == (devices > 1)
    rows = table(workplace / "1" / "metrics.csv")
    assert len(rows) == 2 * 11
    assert sum(float(row["train/grad_norm"]) > 2 * CLIP for row in rows) > len(rows) / 4, "clipping has something to do"
    alone = json.loads((workplace / "1" / "summary.json").read_text())
    assert (alone["world_size"], alone["batch_size_per_device"], alone["straggler_fraction"]) == (1, BATCH_SIZE, 0)
    for devices in (2, 4):
        run = workplace / str(devices)
        others = table(run / "metrics.csv")
        for row, other in zip(rows, others, strict=True):
            padding, other_padding = (one.pop("train/padding") for one in (row.copy(), other))
            assert float(other_padding) <= float(padding), "each process pads to its own longest; fillers don't count"
            for name in row.keys() - {TIMING, "train/padding"}:
                exact = name.endswith(("accuracy", "f1", "auroc", "step", "epoch"))
                assert close(row[name], other[name], 0 if exact else 1e-10), (devices, row["step"], name)
        # Also the same numbers with the digits that are told: a probability is written with six.
        predictions = [table(path / "evaluation-test" / "predictions.csv") for path in (workplace / "1", run)]
        assert [row["index"] for row in predictions[1]] == [str(index) for index in range(61)], "each review once"
        for row, other in zip(*predictions, strict=True):
            assert close(row.pop("probability"), other.pop("probability"), 2e-6)
            assert row == other
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["world_size"], summary["batch_size_per_device"]) == (devices, -(-BATCH_SIZE // devices))
        assert 0 < summary["straggler_fraction"] < 0.5
        assert summary["tokens"] == alone["tokens"]
    assert sorted(path.name for path in workplace.iterdir()) == ["1", "2", "4"]


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=24).map(lambda n: np.array(n, dtype=np.int32))
CLASSES = st.sampled_from([2, 3])
WORLD_SIZES = st.sampled_from([1, 2, 3, 4, 8])


def reviews(lengths: Any, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, padded, and labels of random reviews."""
    generator = torch.Generator().manual_seed(len(lengths))
    token_ids = torch.randint(2, VOCAB_SIZE, (len(lengths), int(lengths.max())), generator=generator)
    inside = torch.arange(token_ids.shape[1]) < torch.from_numpy(lengths).unsqueeze(1)
    return token_ids.masked_fill(~inside, 0), torch.randint(0, classes, (len(lengths),), generator=generator)


SHARES = st.sampled_from([0.0, 0.3])


@given(LENGTHS, st.integers(1, 24), WORLD_SIZES, SHARES, SHARES, CLASSES)
def test_the_mean_of_the_processes_gradients_is_that_of_the_steps_mean_loss(
    lengths: Any, batch_size: int, world_size: int, adversarial: float, virtual: float, classes: int
) -> None:
    token_ids, labels = reviews(lengths, classes)
    shares: dict[str, Any] = {"adversarial": adversarial, "virtual_adversarial": virtual}
    module = make_module(classes=classes, **shares, **WITHOUT_DROPOUT).double()
    parameters = list(module.model.parameters())

    def loss(rows: Any, weights: Any, size: int, processes: int) -> torch.Tensor:
        batch = {
            "token_ids": token_ids[rows, : lengths[rows].max()],
            "lengths": torch.from_numpy(lengths[rows]).long(),
            "labels": labels[rows],
            "weights": torch.from_numpy(weights).double(),
            "global_batch_size": size,
        }
        return training_loss(module.model, batch, module.model_config, world_size=processes).loss

    for step in plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=0):
        whole = torch.autograd.grad(loss(step, np.ones(len(step)), len(step), 1), parameters)
        averaged = [torch.zeros_like(parameter) for parameter in parameters]
        losses = []
        for rank in range(world_size):
            rows, weights = shard_step(step, lengths, rank, world_size)
            share = loss(rows, weights, len(step), world_size)
            losses.append(float(share.detach()))
            if not weights.any():
                assert losses[-1] == 0
            for total, gradient in zip(averaged, torch.autograd.grad(share, parameters), strict=True):
                total += gradient / world_size
        for gradient, expected in zip(averaged, whole, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
        assert np.mean(losses) == pytest.approx(float(loss(step, np.ones(len(step)), len(step), 1).detach()), abs=1e-12)
        norms = [float(get_total_norm(gradients)) for gradients in (averaged, whole)]
        assert norms[0] == pytest.approx(norms[1], abs=1e-12)


@given(LENGTHS, st.integers(1, 24), WORLD_SIZES, CLASSES)
def test_fillers_count_in_no_metric(lengths: Any, batch_size: int, world_size: int, classes: int) -> None:
    _, labels = reviews(lengths, classes)
    shape = (len(lengths),) if classes == 2 else (len(lengths), classes)
    logits = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plan = plan_epoch(lengths, batch_size=batch_size, seed=0, epoch=0, shuffle=False)

    def share(rank: int, processes: int) -> list[tuple[torch.Tensor, Batch]]:
        batches = []
        for step in plan:
            rows, weights = shard_step(step, lengths, rank, processes)
            batch = {"indices": torch.from_numpy(rows), "weights": torch.from_numpy(weights)}
            batches.append(
                (logits[rows], {**batch, "labels": labels[rows], "lengths": torch.from_numpy(lengths[rows])})
            )
        return batches

    def measured(processes: int) -> dict[str, float]:
        shares = [share(rank, processes) for rank in range(processes)]
        batches = [batch for one in shares for _, batch in one]
        predictions, logged = validate_on_ranks(batches, shares)
        assert len(predictions) == len(lengths)
        return logged

    alone, shared = measured(1), measured(world_size)
    assert alone.pop("val/loss") == pytest.approx(shared.pop("val/loss"), abs=1e-12)
    assert alone == shared
    assert ("val/auroc" in alone) == bool((labels != labels[0]).any())
    assert alone["val/accuracy"] == pytest.approx(float((predicted_classes(logits) == labels).double().mean()))


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 7))
def test_every_process_draws_dropout_of_its_own(seed: int, step: int, micro_batch: int) -> None:
    seeds = {step_seed(seed, step, micro_batch, rank) for rank in range(8)}
    assert len(seeds) == 8
    assert all(0 <= value < 2**63 for value in seeds)
    assert seeds == {step_seed(seed, step, micro_batch, rank) for rank in range(8)}, "repeats"
    assert seeds.isdisjoint({step_seed(seed, step + 1, micro_batch, rank) for rank in range(8)})
