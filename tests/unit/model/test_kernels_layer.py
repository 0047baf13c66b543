"""The C code against the equations: sizes around its vectors and tiles, and what else is asked of a layer."""

import functools
import platform
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrnn.base.errors import InputError
from textrnn.model import implementations
from textrnn.model.encoder import RecurrentLayer
from textrnn.model.implementations import choose_implementation
from textrnn.model.kernels import layer as layers
from textrnn.model.kernels import library
from textrnn.model.kernels.passes import CELLS

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def make_layer(cell: str, hidden: int, *, bidirectional: bool = True, initial_state: str = "zeros") -> RecurrentLayer:
    kind, nonlinearity = cell.split("_")[-1], "relu" if cell == "relu_rnn" else "tanh"
    learned = "learned" if initial_state == "learned" else "zeros"
    layer = RecurrentLayer(
        kind, 7, hidden, bidirectional=bidirectional, initial_state=learned, nonlinearity=nonlinearity
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1).div_(hidden**0.5)
    return layer


def results(
    layer: RecurrentLayer, implementation: str, inputs: Tensor, lengths: Tensor, state: list[Tensor] | None = None
) -> list[Tensor]:
    """Outputs with and without recording, then the gradients of the inputs, all parameters and a given state."""
    layer.implementation = implementation
    layer.zero_grad()
    inputs = inputs.detach().clone().requires_grad_()
    state = None if state is None else [part.detach().clone().requires_grad_() for part in state]
    outputs = layer(inputs, lengths, state)
    # Weights of the sum that differ from place to place, the same for each implementation.
    (outputs * torch.arange(outputs.numel()).view_as(outputs).cos().to(outputs.dtype)).sum().backward()
    with torch.inference_mode():
        unrecorded = layer(inputs, lengths, state)
    gradients = [variable.grad for variable in (inputs, *layer.parameters(), *(state or []))]
    return [outputs.detach(), unrecorded, *(gradient for gradient in gradients if gradient is not None)]


layers_and_lengths = given(
    hidden=st.integers(1, 70),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    bidirectional=st.booleans(),
    initial_state=st.sampled_from(["zeros", "learned", "given"]),
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
@settings(max_examples=25, deadline=None)
@layers_and_lengths
@example(hidden=128, lengths=[30, 1, 17, 30, 2, 29, 3, 3, 3], bidirectional=True, initial_state="zeros")
@example(hidden=128, lengths=[9] * 64, bidirectional=True, initial_state="learned")
@example(hidden=48, lengths=[1] * 17, bidirectional=True, initial_state="learned")
@example(hidden=40, lengths=[3, 9, 1, 9, 2] * 8, bidirectional=True, initial_state="given")
def test_equals_the_equations(
    cell: str, dtype: torch.dtype, hidden: int, lengths: list[int], bidirectional: bool, initial_state: str
) -> None:
    torch.manual_seed(0)
    layer = make_layer(cell, hidden, bidirectional=bidirectional, initial_state=initial_state).to(dtype)
    inputs = torch.randn(len(lengths), max(lengths), 7, dtype=dtype)
    shape = (1 + bidirectional, len(lengths), hidden)
    parts = (2 if cell == "lstm" else 1) if initial_state == "given" else 0
    state = [torch.randn(shape, dtype=dtype) for _ in range(parts)] or None
    expected = results(layer, "cell", inputs, torch.tensor(lengths), state)
    actual = results(layer, "compiled", inputs, torch.tensor(lengths), state)
    assert len(actual) == 3 + len(list(layer.parameters())) + parts
    for ours, theirs in zip(actual, expected, strict=True):
        scale = float(theirs.abs().max().clamp(min=1))
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE[dtype] * scale, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for older processors of this kind")
@pytest.mark.parametrize(("instructions", "vector_length"), [("x86-64", 4), ("x86-64-v3", 8)])
def test_a_processor_with_shorter_vectors_equals_the_equations(
    instructions: str, vector_length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if vector_length == 8 and "avx2" not in library._processor().split():
        pytest.skip("needs AVX2")
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/bash\nexec cc "${{@/-march=native/-march={instructions}}}"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    load = functools.cache(library.load_library.__wrapped__)
    monkeypatch.setattr(layers, "load_library", load)
    loaded = load("float")
    assert loaded is not None
    assert loaded.vector_length() == vector_length
    for cell in (*CELLS, "relu_rnn"):
        layer, lengths = make_layer(cell, 45), torch.tensor([9, 1, 12, 12, 3, 5, 7] * 3)
        inputs = torch.randn(len(lengths), 12, 7)
        expected = results(layer, "cell", inputs, lengths)
        for ours, theirs in zip(results(layer, "compiled", inputs, lengths), expected, strict=True):
            scale = float(theirs.abs().max().clamp(min=1))
            torch.testing.assert_close(ours, theirs, atol=TOLERANCE[torch.float32] * scale, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_small_and_large_inputs_keep_their_digits(cell: str) -> None:
    layer = make_layer(cell, 16)
    inputs = torch.logspace(-6, 3, 4 * 9 * 7).view(4, 9, 7) * torch.tensor([1.0, -1.0]).repeat(2).view(4, 1, 1)
    lengths = torch.tensor([9, 9, 4, 1])
    ours = results(layer, "compiled", inputs, lengths)
    exact = results(layer.double(), "cell", inputs.double(), lengths)
    torch.testing.assert_close(ours[0].double(), exact[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_threads_do_not_change_a_digit(cell: str) -> None:
    torch.manual_seed(0)
    layer, lengths = make_layer(cell, 24), torch.randint(1, 20, (50,))
    inputs, threads, runs = torch.randn(50, 20, 7), torch.get_num_threads(), []
    layer.implementation = "compiled"
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with torch.inference_mode():
                runs.append(layer(inputs, lengths))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
def test_padding_is_never_read_and_nan_is_not_hidden(cell: str) -> None:
    layer, lengths = make_layer(cell, 24), torch.tensor([5, 2])
    inputs = torch.randn(2, 5, 7)
    poisoned = inputs.clone()
    poisoned[1, 2:] = torch.nan
    layer.implementation = "compiled"
    assert torch.equal(layer(poisoned, lengths), layer(inputs, lengths))
    inputs[0, 3] = torch.nan
    assert layer(inputs, lengths)[0, 3].isnan().all()


@pytest.mark.parametrize("cell", CELLS)
def test_no_two_gradients_share_memory(cell: str) -> None:
    layer = make_layer(cell, 8)
    layer.implementation = "compiled"
    layer(torch.randn(2, 3, 7), torch.tensor([3, 1])).sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    before = [gradient.clone() for gradient in gradients]
    for gradient in gradients:
        gradient.mul_(0.5)  # as clipping does
    assert all(torch.equal(after, 0.5 * old) for after, old in zip(gradients, before, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_a_second_gradient_is_refused(cell: str) -> None:
    layer = make_layer(cell, 8)
    layer.implementation = "compiled"
    outputs = layer(torch.randn(2, 3, 7), torch.tensor([3, 1])).sum()
    outputs.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken once"):
        outputs.backward()


@pytest.mark.parametrize("cell", CELLS)
def test_autocast_rounds_products_and_keeps_the_recurrence(cell: str) -> None:
    torch.manual_seed(0)
    layer, inputs, lengths = make_layer(cell, 32), torch.randn(6, 40, 7), torch.randint(1, 41, (6,))
    exact = results(layer, "compiled", inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = results(layer, "compiled", inputs, lengths)
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < float((ours - theirs).abs().max() / theirs.abs().max()) < 0.05  # bfloat16 has 8 bits


@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
@settings(max_examples=15, deadline=None)
@layers_and_lengths
@example(hidden=48, lengths=[1] * 17, bidirectional=True, initial_state="given")
@example(hidden=128, lengths=[30, 1, 17, 30, 2, 29, 3, 3, 3], bidirectional=True, initial_state="zeros")
def test_bfloat16_comes_to_the_equations_within_its_digits(
    cell: str, hidden: int, lengths: list[int], bidirectional: bool, initial_state: str
) -> None:
    torch.manual_seed(0)
    layer = make_layer(cell, hidden, bidirectional=bidirectional, initial_state=initial_state)
    inputs = torch.randn(len(lengths), max(lengths), 7)
    parts = (2 if cell == "lstm" else 1) if initial_state == "given" else 0
    state = [torch.randn(1 + bidirectional, len(lengths), hidden) for _ in range(parts)] or None
    expected = results(layer, "cell", inputs, torch.tensor(lengths), state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = results(layer, "compiled", inputs, torch.tensor(lengths), state)
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        assert ours.dtype == torch.float32
        share = float((ours - theirs).norm() / theirs.norm().clamp(min=1))
        if cell != "relu_rnn" or number < 2:  # a relu on the other side of 0 has another gradient altogether
            assert share < (0.02 if number < 2 else 0.2)  # factors have 8 bits; what is summed in a gradient may cancel


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_takes_no_notice_of_threads_padding_and_neighbours(cell: str) -> None:
    torch.manual_seed(0)
    layer, lengths = make_layer(cell, 24), torch.randint(1, 20, (50,))
    lengths[0] = 20
    inputs, threads, runs = torch.randn(50, 20, 7), torch.get_num_threads(), []
    poisoned = inputs.clone()
    poisoned[torch.arange(20) >= lengths[:, None]] = torch.nan
    try:
        for count, given_inputs in ((1, inputs), (2, poisoned), (5, inputs)):
            torch.set_num_threads(count)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                runs.append(results(layer, "compiled", given_inputs, lengths))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(one, other) for one, other in zip(runs[0], runs[2], strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        alone = layer(inputs[:1], lengths[:1])
    assert torch.equal(alone[0], runs[0][1][0])


def test_what_the_c_code_cannot_run_is_refused() -> None:
    layer = make_layer("gru", 8).bfloat16()
    layer.implementation = "compiled"
    with pytest.raises(InputError, match=r"model\.implementation=auto"):
        layer(torch.randn(2, 3, 7, dtype=torch.bfloat16), torch.tensor([3, 1]))
    assert choose_implementation("auto", "gru", torch.zeros(1, dtype=torch.bfloat16)) == "fused"
    assert choose_implementation("auto", "gru", torch.zeros(1)) == "compiled"
    assert choose_implementation("packed", "gru", torch.zeros(1)) == "packed"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert choose_implementation("auto", "lstm", torch.zeros(1)) in ("fused", "compiled")  # by the processor


@pytest.mark.parametrize("implementation", ["fused", "packed"])
def test_torchs_lstm_in_mixed_precision_is_refused_where_the_processor_has_none(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementations, "_has_half_lstm", lambda low: low != torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(InputError, match=r"model\.implementation=auto"):
            choose_implementation(implementation, "lstm", torch.zeros(1))
        assert choose_implementation("auto", "lstm", torch.zeros(1)) == "compiled"
        assert choose_implementation(implementation, "gru", torch.zeros(1)) == implementation
    assert choose_implementation(implementation, "lstm", torch.zeros(1)) == implementation


@pytest.mark.parametrize(
    "lengths", [[3], [3, 1, 1], [3, 0], [3, -1], [4, 1], [[3, 1]]], ids=["few", "many", "0", "-1", "long", "2-d"]
)
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    layer = make_layer("gru", 8)
    layer.implementation = "compiled"
    with pytest.raises(ValueError, match="lengths"):
        layer(torch.randn(2, 3, 7), torch.tensor(lengths))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        layer(torch.randn(2, 3, 7), torch.tensor([3, 1], dtype=torch.int32))


@pytest.mark.parametrize("cell", CELLS)
def test_the_chosen_implementation_trains_under_autocast_on_this_processor(cell: str) -> None:
    layer, inputs, lengths = make_layer(cell, 8), torch.randn(3, 5, 7), torch.tensor([5, 1, 4])
    exact = layer(inputs, lengths)
    layer.implementation = "auto"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(inputs, lengths)
    rounded.float().sum().backward()
    assert float((rounded.float() - exact).abs().max().detach()) < 0.05  # bfloat16 has 8 bits
    assert all(weight.grad is not None for weight in layer.parameters())


@pytest.mark.parametrize("cell", CELLS)
def test_float64_is_exact_under_autocast_too(cell: str) -> None:
    layer = make_layer(cell, 8).double()
    layer.implementation = "compiled"
    inputs, lengths = torch.randn(3, 5, 7, dtype=torch.float64), torch.tensor([5, 1, 3])
    exact = layer(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(inputs, lengths), exact)
