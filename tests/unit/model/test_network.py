"""The network alone: logits of reviews, numbers of parameters."""

import pytest
import torch
from doubles.small_runs import VOCAB_SIZE, WITHOUT_DROPOUT, make_batch, make_config

from textrnn.config.schema import CELLS, EmbeddingConfig
from textrnn.model.network import TextClassifier, parameter_counts


@pytest.mark.parametrize("pooling", ["last", "max_mean"])
@pytest.mark.parametrize("cell", CELLS)
def test_logits_do_not_depend_on_the_company_of_a_review(cell: str, pooling: str) -> None:
    torch.manual_seed(0)
    model = TextClassifier(make_config(cell=cell, pooling=pooling, num_layers=2), VOCAB_SIZE).eval().double()
    batch = make_batch(6, seed=1)
    logits = model(batch["token_ids"], batch["lengths"])
    assert logits.shape == (6,)
    with_more = TextClassifier(make_config(), VOCAB_SIZE, classes=3).double()
    assert with_more(batch["token_ids"], batch["lengths"]).shape == (6, 3)
    for review, length in enumerate(batch["lengths"].tolist()):
        alone = model(batch["token_ids"][review : review + 1, :length], batch["lengths"][review : review + 1])
        torch.testing.assert_close(alone[0], logits[review], atol=1e-12, rtol=1e-12)


def test_logits_are_at_least_float32() -> None:
    batch = make_batch(2, seed=0)
    for parameters, logits in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = TextClassifier(make_config(), VOCAB_SIZE).to(parameters)
        assert model(batch["token_ids"], batch["lengths"]).dtype == logits


def test_parameter_counts() -> None:
    config = make_config(
        cell="gru", embedding=EmbeddingConfig(size=6, trainable=False), num_layers=2, pooling="max_mean"
    )
    counts = parameter_counts(TextClassifier(config, VOCAB_SIZE))
    recurrent = 2 * (3 * 5 * (6 + 5 + 2)) + 2 * (3 * 5 * (10 + 5 + 2))
    assert counts == {
        "total": 20 * 6 + recurrent + 21,
        "trainable": recurrent + 21,
        "embedding": 20 * 6,
        "recurrent": recurrent,
        "output": 21,
    }


def test_onehot_input_makes_the_first_layer_as_wide_as_the_vocabulary() -> None:
    config = make_config(cell="lstm", embedding=EmbeddingConfig(kind="onehot"), bidirectional=False, bias=False)
    model = TextClassifier(config, VOCAB_SIZE)
    weights = dict(model.encoder.named_parameters())
    assert {name.split(".")[-1]: tuple(weight.shape) for name, weight in weights.items()} == {
        "weight_ih_l0": (4 * 5, VOCAB_SIZE),
        "weight_hh_l0": (4 * 5, 5),
    }
    counts = parameter_counts(model)
    assert (counts["embedding"], counts["recurrent"]) == (0, 4 * 5 * (VOCAB_SIZE + 5))
    batch = make_batch(3, seed=0)
    model(batch["token_ids"], batch["lengths"]).sum().backward()
    assert all(weight.grad is not None for weight in weights.values())


def test_the_output_layer_starts_glorot_uniform_without_bias() -> None:
    output = TextClassifier(make_config(hidden_size=64, pooling="mean"), VOCAB_SIZE).output
    bound = (6 / (2 * 64 + 1)) ** 0.5  # Glorot & Bengio 2010
    assert 0.9 * bound < output.weight.abs().max() <= bound
    assert not output.bias.any()


def test_output_dropout_is_on_the_pooled_review_and_in_training_alone() -> None:
    model = TextClassifier(make_config(hidden_size=40, **{**WITHOUT_DROPOUT, "output_dropout": 0.5}), VOCAB_SIZE)
    pooled: list[torch.Tensor] = []
    model.output.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    batch = make_batch(9, seed=0)
    model(batch["token_ids"], batch["lengths"])
    model.eval()(batch["token_ids"], batch["lengths"])
    training, evaluation = pooled
    assert 0.4 < (training == 0).float().mean() < 0.6
    assert (evaluation != 0).all()
