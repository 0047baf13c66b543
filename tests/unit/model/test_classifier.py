"""The classifier: its loss over ranks, random states, logging and optimiser, by real training runs."""

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from doubles.small_runs import (
    VOCAB_SIZE,
    WITHOUT_DROPOUT,
    Batch,
    History,
    Loader,
    as_rank,
    fit,
    make_batch,
    make_config,
    make_module,
    make_trainer,
    train,
)
from torch import Tensor

from textrnn.config.schema import CELLS, EmbeddingConfig, ModelConfig, OptimizerConfig
from textrnn.model import classifier
from textrnn.model.classifier import learning_rate_factor, step_seed
from textrnn.model.loss import TrainingLoss, review_losses, step_loss, training_loss
from textrnn.model.network import TextClassifier

# --- the start -----------------------------------------------------------------------------------------------------


def test_parameters_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_module(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = make_module(seed=3).state_dict(), make_module(seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["model.embedding.table.weight"], other["model.embedding.table.weight"])


# --- the loss over ranks -------------------------------------------------------------------------------------------


def gradients(model: TextClassifier, batch: Batch, world_size: int) -> list[Tensor]:
    losses = review_losses(model(batch["token_ids"], batch["lengths"]), batch["labels"], batch["weights"].double())
    loss = step_loss(losses, batch["global_batch_size"], world_size)
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(("world_size", "classes"), [(2, 2), (3, 2), (4, 2), (3, 5)])
def test_step_has_the_same_gradient_at_every_world_size(world_size: int, classes: int) -> None:
    torch.manual_seed(0)
    model = TextClassifier(make_config(), VOCAB_SIZE, classes=classes).eval().double()
    batch = make_batch(7, seed=5, classes=classes)  # no world size divides it: ranks get fillers
    expected = gradients(model, batch, world_size=1)
    share = math.ceil(7 / world_size)
    per_rank = []
    for rank in range(world_size):
        rows = torch.arange(rank * share, (rank + 1) * share)
        part: Batch = {key: value[rows.clamp(max=6)] for key, value in batch.items() if isinstance(value, Tensor)}
        part["weights"] = (rows <= 6).float()
        per_rank.append(gradients(model, {**part, "global_batch_size": 7}, world_size))
    for expected_gradient, *parts in zip(expected, *per_rank, strict=True):
        # DistributedDataParallel averages the ranks' gradients.
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), expected_gradient, atol=1e-12, rtol=1e-12)


# --- training ------------------------------------------------------------------------------------------------------


def test_training_logs_means_over_all_reviews_since_the_last_logging() -> None:
    batches = [make_batch(reviews, seed=reviews) for reviews in (4, 7, 3, 6, 5)]
    single = train(batches, make_module())
    pairs = train(batches, make_module(), log_every_n_steps=2)
    assert list(single) == [1, 2, 3, 4, 5]
    assert list(pairs) == [2, 4]
    for name in ("loss", "accuracy"):
        assert pairs[2][name] == pytest.approx((4 * single[1][name] + 7 * single[2][name]) / 11, rel=1e-6)
        assert pairs[4][name] == pytest.approx((3 * single[3][name] + 6 * single[4][name]) / 9, rel=1e-6)


def test_the_logged_divergence_is_the_mean_over_both_streams() -> None:
    others = [
        {**make_batch(reviews, seed=reviews), "unlabelled": make_batch(9 - reviews, seed=1)} for reviews in (4, 7)
    ]
    single = train(others, make_module(virtual_adversarial=0.3))
    pairs = train(others, make_module(virtual_adversarial=0.3), log_every_n_steps=2)
    both = (single[1]["virtual"] + single[2]["virtual"]) / 2  # of 4 + 5 and of 7 + 2 reviews
    assert pairs[2]["virtual"] == pytest.approx(both, rel=1e-5)
    assert both > 0


def test_training_logs_with_gradient_accumulation() -> None:
    batches = [make_batch(4, seed=seed) for seed in range(5)]
    rows = train(batches, make_module(), accumulate_grad_batches=2, log_every_n_steps=1)
    assert list(rows) == [1, 2, 3]  # the last batch of an epoch steps alone


def test_every_second_step_is_trained_adversarially(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []

    def noted(network: TextClassifier, batch: Batch, config: ModelConfig, **others: Any) -> TrainingLoss:
        shares.append(config.adversarial)
        return training_loss(network, batch, config, **others)

    monkeypatch.setattr(classifier, "training_loss", noted)
    batches = [make_batch(4, seed=seed) for seed in range(5)]
    train(batches, make_module(adversarial=0.3, adversarial_every=2), accumulate_grad_batches=2)
    assert shares == [0.3, 0.3, 0, 0, 0.3], "whole optimizer steps"


def test_fillers_do_not_train() -> None:
    batch = make_batch(5, seed=0)
    with_fillers = {
        **batch,
        **{key: batch[key].repeat_interleave(2, dim=0) for key in ("token_ids", "lengths", "labels")},
    }
    with_fillers["weights"] = torch.tensor([1.0, 0.0]).repeat(5)
    rows, filled = (
        train([batch] * 3, make_module(**WITHOUT_DROPOUT)),
        train([with_fillers] * 3, make_module(**WITHOUT_DROPOUT)),
    )
    for step in (1, 2, 3):
        assert filled[step] == pytest.approx(rows[step], rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_training_learns(cell: str) -> None:
    batches = [make_batch(32, seed=seed) for seed in range(60)]
    optimizer = OptimizerConfig(lr=0.02, warmup_steps=5)
    module = make_module(cell=cell, hidden_size=16, pooling="mean", optimizer=optimizer, **WITHOUT_DROPOUT)
    rows = train(batches, module, log_every_n_steps=30)
    assert rows[60]["accuracy"] > 0.9 > rows[30]["accuracy"]
    assert rows[60]["loss"] < 0.3 < rows[30]["loss"]


def test_runs_with_one_seed_are_identical() -> None:
    batches = [make_batch(8, seed=seed) for seed in range(5)]
    torch.manual_seed(1)
    first = train(batches, make_module(seed=0))
    torch.manual_seed(2)
    assert train(batches, make_module(seed=0)) == first
    assert train(batches, make_module(seed=1)) != first


def test_step_seed_tells_places_apart() -> None:
    places = [
        (seed, step, micro, rank) for seed in range(3) for step in range(5) for micro in range(2) for rank in range(3)
    ]
    seeds = {step_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(0, 7, 0, 1) == step_seed(0, 7, 0, 1)


def test_dropout_is_that_of_the_step() -> None:
    # Learning rate 0: the same batch at the same step gives the same loss, whatever was drawn before, and at another
    # step another loss, as dropout is another.
    still = OptimizerConfig(lr=0.0, schedule="constant")
    batch = make_batch(6, seed=0)
    rows = train([batch] * 4, make_module(optimizer=still))
    assert train([make_batch(9, seed=1), batch, batch], make_module(optimizer=still))[3] == rows[3]
    assert len({row["loss"] for row in rows.values()}) == 4
    accumulated = train([batch] * 4, make_module(optimizer=still), accumulate_grad_batches=2)
    assert accumulated[1]["loss"] != rows[1]["loss"]


def test_each_rank_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 2, accumulate_grad_batches=4, global_step=7)
    make_module(seed=3).on_train_batch_start(make_batch(1, seed=0), 9)
    assert torch.initial_seed() == step_seed(3, 7, 1, 2)


def test_accuracy_in_training_is_that_of_the_reviews() -> None:
    batch, module = make_batch(40, seed=0, fillers=3), make_module(**WITHOUT_DROPOUT)
    with torch.no_grad():
        logits = module.eval()(batch["token_ids"], batch["lengths"])[:37]
        module.model.output.bias.sub_(logits.median())
    right = (logits > logits.median()) == (batch["labels"][:37] == 1)
    assert train([batch], module.train())[1]["accuracy"] == pytest.approx(float(right.float().mean()))


def test_an_epoch_that_is_cut_short_ends_in_a_logged_step() -> None:
    history = History()
    trainer = make_trainer(history, accumulate_grad_batches=2, limit_train_batches=3, limit_val_batches=0)
    fit(trainer, make_module(), Loader([make_batch(4, seed=seed) for seed in range(6)]))
    assert list(history.rows) == [1, 2]
    assert len({row["loss"] for row in history.rows.values()}) == 2


# --- the optimiser -------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_decays() -> None:
    def factors(schedule: str, total: int = 8) -> list[float]:
        return [learning_rate_factor(s, warmup_steps=3, total_steps=total, schedule=schedule) for s in range(total + 1)]

    assert factors("constant") == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1])
    assert factors("linear") == pytest.approx([0.25, 0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2, 0])
    cosine = [(1 + math.cos(math.pi * done / 5)) / 2 for done in range(6)]
    assert factors("cosine") == pytest.approx([0.25, 0.5, 0.75, *cosine])
    assert factors("linear", total=2) == pytest.approx([0.25, 0.5, 0.75]), "training may end within the warm-up"


def test_learning_rate_of_each_step_is_logged() -> None:
    rows = train([make_batch(4, seed=0)] * 6, make_module(optimizer=OptimizerConfig(lr=0.1, warmup_steps=1)))
    assert [row["lr"] for row in rows.values()] == pytest.approx([0.05, 0.1, 0.08, 0.06, 0.04, 0.02])


def test_weight_decay_is_for_weight_matrices_only() -> None:
    module = make_module(optimizer=OptimizerConfig(weight_decay=0.3), initial_state="learned", cell="lstm")
    trainer = make_trainer()
    fit(trainer, module, Loader([make_batch(4, seed=0)]))
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    decayed, others = trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {names[id(parameter)].split(".")[-1] for parameter in decayed["params"]} == {
        "weight_ih_l0",
        "weight_hh_l0",
        "weight",
    }
    other_names = {names[id(parameter)] for parameter in others["params"]}
    assert "model.embedding.table.weight" in other_names
    assert sum("initial" in name for name in other_names) == 4
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_lower_parts_learn_more_slowly() -> None:
    module = make_module(
        optimizer=OptimizerConfig(lr=0.5, layer_decay=0.5, weight_decay=0.3, warmup_steps=1),
        num_layers=2,
        embedding=EmbeddingConfig(size=6, bigrams=10),
    )
    trainer = make_trainer()
    fit(trainer, module, Loader([make_batch(4, seed=0)] * 3))
    of_parameter = {parameter: group for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    named = dict(module.named_parameters())
    assert len(of_parameter) == len(named)
    for name, parameter in named.items():
        group = of_parameter[parameter]
        depth = 3 if "embedding.table" in name else 2 if "layers.0" in name else 1 if "layers.1" in name else 0
        assert group["initial_lr"] == 0.5 * 0.5**depth, name
        assert group["weight_decay"] == (0.3 if parameter.ndim >= 2 and "embedding" not in name else 0.0), name
    assert module.train_metrics["lr"] == pytest.approx(0.25), "the output's, half way down"


def test_frozen_embedding_is_not_optimised() -> None:
    module = make_module(embedding=EmbeddingConfig(size=6, trainable=False))
    before = module.model.embedding.table.get_parameter("weight").clone()
    train([make_batch(4, seed=0)] * 2, module)
    assert torch.equal(module.model.embedding.table.get_parameter("weight"), before)


def test_onehot_input_trains_and_its_weights_decay() -> None:
    module = make_module(embedding=EmbeddingConfig(kind="onehot"))
    before = module.model.encoder.state_dict()
    before = {name: weight.clone() for name, weight in before.items()}
    train([make_batch(4, seed=0)] * 2, module)
    decayed = module.trainer.optimizers[0].param_groups[0]
    assert decayed["weight_decay"] > 0
    after = module.model.encoder.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(before)
    assert any(parameter.shape[1] == VOCAB_SIZE for parameter in decayed["params"])


def test_no_end_is_fine_with_a_constant_learning_rate() -> None:
    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.should_stop = True

    module = make_module(optimizer=OptimizerConfig(schedule="constant", warmup_steps=0, lr=0.5))
    trainer = make_trainer(Stop(), max_epochs=-1)
    fit(trainer, module, Loader([make_batch(4, seed=0)]))
    assert trainer.callback_metrics["lr"].item() == 0.5
