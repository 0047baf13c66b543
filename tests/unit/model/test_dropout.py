"""Dropout: its probability, its scale, its gradient, and that a seed repeats it."""

import pytest
import torch

from textrnn.model.dropout import Dropout, dropout_mask


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.9])
def test_components_are_dropped_with_the_probability_and_the_mean_stays(probability: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    mask = dropout_mask(torch.empty(count), probability)
    deviation = (probability * (1 - probability) / count) ** 0.5
    assert abs(float((mask == 0).float().mean()) - probability) < 5 * deviation
    assert abs(float(mask.mean()) - 1) < 5 * deviation / (1 - probability)
    assert sorted(set(mask.tolist())) == [0, pytest.approx(1 / (1 - probability), rel=1e-4)]
    # The four components that share a number don't know of each other.
    neighbours = (mask == 0).float().view(-1, 4)
    correlations = torch.corrcoef(neighbours.T) - torch.eye(4)
    assert float(correlations.abs().max()) < 5 / (count / 4) ** 0.5


def test_it_works_in_training_only_and_its_gradient_is_its_mask() -> None:
    dropout, inputs = Dropout(0.5), torch.randn(7, 11, 13, requires_grad=True)
    outputs = dropout(inputs)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(outputs, inputs * inputs.grad)
    assert set(inputs.grad.flatten().tolist()) == {0, 2}
    assert dropout.eval()(inputs) is inputs
    assert Dropout(0.0)(inputs) is inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_seed_repeats_it(dtype: torch.dtype) -> None:
    inputs = torch.ones(5, 3, dtype=dtype)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.4)(inputs))
    assert masks[0].dtype == dtype
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("dimension", [0, 1])
def test_shared_it_draws_once_for_all_of_a_dimension(dimension: int) -> None:
    torch.manual_seed(0)
    dropout, inputs = Dropout(0.25, shared=dimension), torch.ones(40, 50, 60, requires_grad=True)
    outputs = dropout(inputs)
    first = outputs.narrow(dimension, 0, 1)
    assert torch.equal(outputs, first.expand_as(outputs))
    assert sorted(set(first.flatten().tolist())) == [0, pytest.approx(4 / 3, rel=1e-4)]
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.04)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, outputs)
    assert dropout.eval()(inputs) is inputs
