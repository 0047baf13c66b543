"""Pooling: on numbers that can be checked by eye, and our C code against torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrnn.config.schema import POOLINGS
from textrnn.model.kernels.layer import is_available
from textrnn.model.pooling import Pooling, find_largest

STATES = torch.tensor([[[-1.0, 10.0], [-3.0, 30.0], [0.0, 0.0]], [[5.0, -6.0], [1.0, -2.0], [4.0, -4.0]]])
LENGTHS = torch.tensor([2, 3])


@pytest.mark.parametrize(
    ("kind", "bidirectional", "expected"),
    [
        ("last", False, [[-3.0, 30.0], [4.0, -4.0]]),
        ("last", True, [[-3.0, 10.0], [4.0, -6.0]]),
        ("mean", True, [[-2.0, 20.0], [10 / 3, -4.0]]),
        ("max", True, [[-1.0, 30.0], [5.0, -2.0]]),  # the padding's 0 is no maximum
        ("max_mean", True, [[-1.0, 30.0, -2.0, 20.0], [5.0, -2.0, 10 / 3, -4.0]]),
    ],
)
def test_pooling(kind: str, bidirectional: bool, expected: list[list[float]]) -> None:
    pooled = Pooling(kind, bidirectional=bidirectional)(STATES, LENGTHS)
    torch.testing.assert_close(pooled, torch.tensor(expected))


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_knows_its_size(kind: str) -> None:
    pooling = Pooling(kind, bidirectional=True)
    assert pooling(STATES, LENGTHS).shape == (2, pooling.output_size(2))


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.sampled_from([1, 15, 16, 255, 256, 257, 600]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=60)
def test_max_pooling_is_that_of_torch_gradient_included(
    lengths: list[int], features: int, dtype: torch.dtype, threads: int
) -> None:
    torch.manual_seed(len(lengths) * features)
    shape = (len(lengths), max(lengths), features)
    # Few values, all below the padding's 0: ties everywhere, of which the first token is chosen.
    states = torch.randint(-5, 0, shape).to(dtype)
    states[torch.arange(shape[1]) >= torch.tensor(lengths)[:, None]] = 0
    weights, before = torch.randn(len(lengths), features, dtype=dtype), torch.get_num_threads()
    pooled: list[Tensor] = []
    gradients: list[Tensor | None] = []
    torch.set_num_threads(threads)
    assert is_available(states), "both would be torch's"
    try:
        for implementation in ("fused", "auto"):
            leaf = states.clone().requires_grad_()
            pooling = Pooling("max", bidirectional=True, implementation=implementation)
            pooled.append(pooling(leaf, torch.tensor(lengths)))
            (pooled[-1] * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            gradients.append(leaf.grad)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*pooled, rtol=0, atol=0)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_that_is_no_number_is_the_largest(dtype: torch.dtype) -> None:
    nan, inf = float("nan"), float("inf")
    steps = torch.tensor([[1.0, nan, -inf, -inf, inf], [nan, 2.0, -inf, nan, inf], [nan, 9.0, -inf, 3.0, nan]])
    where = find_largest(steps.to(dtype).unsqueeze(1), torch.tensor([3]))
    assert where.tolist() == [steps.max(dim=0).indices.tolist()] == [[1, 0, 0, 1, 2]]
