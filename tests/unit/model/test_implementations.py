"""All implementations of the recurrence give torch's own numbers: packing with its fused multi-layer modules."""

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from textrnn.base.errors import InputError
from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.model.encoder import Encoder, RecurrentLayer
from textrnn.model.implementations import choose_implementation, reverse_by_length
from textrnn.model.kernels.passes import CELLS
from textrnn.model.pooling import Pooling
from textrnn.model.recurrent import KERNELS, Direction

INPUT, HIDDEN = 5, 4
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def make_encoder(
    cell: str,
    implementation: str,
    layers: int,
    bidirectional: bool,
    initial_state: str,
    *,
    nonlinearity: str = "tanh",
    bias: bool = True,
) -> Encoder:
    config = ModelConfig(
        cell=cell,
        nonlinearity=nonlinearity,
        bias=bias,
        embedding=EmbeddingConfig(size=INPUT),
        hidden_size=HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        implementation=implementation,
        initial_state=initial_state,
    )
    encoder = Encoder(config, INPUT).eval()
    bound = 0.8 if nonlinearity == "tanh" else 0.3  # a relu's states grow without a limit
    with torch.no_grad():  # biases and initial states too, which start from zero
        for parameter in encoder.parameters():
            parameter.uniform_(-bound, bound)
    return encoder


def directions(encoder: Encoder) -> list[Direction]:
    return [module for module in encoder.modules() if isinstance(module, Direction)]


def names(encoder: Encoder) -> list[str]:
    """Torch's names for one layer and direction, in the order of `directions`."""
    suffixes = ["", "_reverse"] if len(directions(encoder)) > len(encoder.layers) else [""]
    return [f"l{layer}{suffix}" for layer in range(len(encoder.layers)) for suffix in suffixes]


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def torch_module(encoder: Encoder) -> nn.Module:
    """Torch's multi-layer module with the encoder's weights."""
    parts, labels = directions(encoder), names(encoder)
    options: dict[str, Any] = {"nonlinearity": "relu"} if parts[0].relu else {}
    module = KERNELS[parts[0].cell](
        INPUT,
        HIDDEN,
        num_layers=len(encoder.layers),
        bidirectional=len(parts) > len(encoder.layers),
        bias=len(parts[0].weights) == 4,
        batch_first=True,
        dtype=parts[0].weights[0].dtype,
        **options,
    )
    state = {
        f"{name}_{label}": weight.detach()
        for part, label in zip(parts, labels, strict=True)
        for name, weight in zip(WEIGHTS, part.weights, strict=False)
    }
    module.load_state_dict(state)
    return module


def initial_states(encoder: Encoder, kind: str, batch: int) -> list[Tensor]:
    """h, and c of an LSTM, before the first token, each (layers * directions, batch, hidden): leaves of their own."""
    parts = directions(encoder)
    dtype, count = parts[0].weights[0].dtype, 2 if parts[0].cell == "lstm" else 1
    states = torch.zeros(count, len(parts), batch, HIDDEN, dtype=dtype)
    if kind == "given":
        states = torch.randn_like(states)
    if kind == "learned":
        states = torch.stack([torch.stack([part.learned_state(batch)[i] for part in parts]) for i in range(count)])
    return [state.detach().clone().requires_grad_() for state in states]


def torch_outputs(module: nn.Module, initial: list[Tensor], inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (batch, time, features) and the last layer's final states (batch, features)."""
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, final = module(packed, tuple(initial) if len(initial) == 2 else initial[0])
    hidden = final[0] if isinstance(final, tuple) else final
    last_layer = hidden[-2:] if module.bidirectional else hidden[-1:]
    padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    return padded, torch.cat(list(last_layer), dim=1)


def pooled_by_hand(outputs: Tensor, final: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Poolings review by review, on the review's own tokens."""
    reviews = [output[:length] for output, length in zip(outputs, lengths.tolist(), strict=True)]
    maximum = torch.stack([review.max(dim=0).values for review in reviews])
    mean = torch.stack([review.mean(dim=0) for review in reviews])
    return {"last": final, "max": maximum, "mean": mean, "max_mean": torch.cat([maximum, mean], dim=1)}


def assert_equal(actual: Tensor | None, expected: Tensor | None) -> None:
    assert actual is not None
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@pytest.mark.parametrize("implementation", ["compiled", "fused", "packed", "cell"])
@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
@settings(max_examples=25, deadline=None)
@given(
    lengths=LENGTHS,
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    initial_state=st.sampled_from(["zeros", "learned", "given"]),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    extra_padding=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
@example([1], 1, True, "zeros", True, torch.float64, 0, 0)
@example([1, 1, 1], 3, True, "learned", True, torch.float64, 2, 0)
@example([6, 6, 6], 2, True, "zeros", True, torch.float64, 0, 0)
@example([1, 60, 2, 60, 1], 3, True, "learned", True, torch.float64, 0, 0)
@example([60, 1, 33], 3, True, "zeros", False, torch.float32, 1, 0)
@example([9, 1, 60, 4, 4, 4, 7, 8, 2, 3], 3, True, "given", False, torch.float64, 1, 0)
def test_equals_packing_through_torchs_own_modules(
    implementation: str,
    cell: str,
    lengths: list[int],
    layers: int,
    bidirectional: bool,
    initial_state: str,
    bias: bool,
    dtype: torch.dtype,
    extra_padding: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    kind, nonlinearity = cell.split("_")[-1], "relu" if cell == "relu_rnn" else "tanh"
    learned = "learned" if initial_state == "learned" else "zeros"
    encoder = make_encoder(
        kind, implementation, layers, bidirectional, learned, nonlinearity=nonlinearity, bias=bias
    ).to(dtype)
    module, length = torch_module(encoder), torch.tensor(lengths)
    initial = initial_states(encoder, initial_state, len(lengths))
    given = [part.detach().clone().requires_grad_() for part in initial] if initial_state == "given" else None
    inputs = torch.randn(len(lengths), max(lengths) + extra_padding, INPUT, dtype=dtype, requires_grad=True)
    torch_inputs = inputs.detach().clone().requires_grad_()

    outputs = encoder(inputs, length, given)
    expected, final = torch_outputs(module, initial, torch_inputs, length)
    assert_equal(outputs, expected)

    # One loss that every output and every pooling reaches, of the order of 1.
    loss, torch_loss = outputs.new_zeros(()), outputs.new_zeros(())
    for kind, pooled in pooled_by_hand(expected, final, length).items():
        ours = Pooling(kind, bidirectional=bidirectional)(outputs, length)
        assert_equal(ours, pooled)
        projection = torch.randn_like(pooled) / pooled.numel() ** 0.5
        loss, torch_loss = loss + (projection * ours).sum(), torch_loss + (projection * pooled).sum()
    projection = torch.randn_like(expected) / expected.numel() ** 0.5
    (loss + (projection * outputs).sum()).backward()
    (torch_loss + (projection * expected).sum()).backward()

    assert_equal(inputs.grad, torch_inputs.grad)
    torch_gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    for row, (part, label) in enumerate(zip(directions(encoder), names(encoder), strict=True)):
        for name, weight in zip(WEIGHTS, part.weights, strict=False):
            assert_equal(weight.grad, torch_gradients[f"{name}_{label}"])
        for vector, torch_part in zip(part.initial, initial, strict=False):
            assert torch_part.grad is not None
            assert_equal(vector.grad, torch_part.grad[row].sum(dim=0))
    for ours_given, torch_part in zip(given or [], initial, strict=False):
        assert_equal(ours_given.grad, torch_part.grad)


@pytest.mark.parametrize("implementation", ["fused", "packed", "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_never_reaches_a_review(cell: str, implementation: str) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(cell, implementation, 2, True, "zeros").double()
    lengths = torch.tensor([3, 7, 1])
    inputs = torch.randn(3, 9, INPUT, dtype=torch.float64)
    changed = inputs.clone()
    for review, length in enumerate(lengths.tolist()):
        changed[review, length:] = 1e6
    outputs = encoder(inputs, lengths)
    assert torch.equal(encoder(changed, lengths), outputs)
    assert all(torch.all(outputs[review, length:] == 0) for review, length in enumerate(lengths.tolist()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", [*CELLS, "relu_rnn"])
def test_a_state_dict_moves_between_fused_cell_and_torchs_own_module(cell: str, bias: bool) -> None:
    torch.manual_seed(0)
    kind, nonlinearity = cell.split("_")[-1], "relu" if cell == "relu_rnn" else "tanh"
    fused, by_cell = (
        make_encoder(kind, name, 2, True, "zeros", nonlinearity=nonlinearity, bias=bias) for name in ("fused", "cell")
    )
    saved = fused.state_dict()
    assert any("bias" in name for name in saved) == bias
    by_cell.load_state_dict(saved)
    # The names as `Encoder` explains them.
    module = torch_module(fused)
    module.load_state_dict(
        {
            name.split(".")[-1].replace("l0", f"l{name.split('.')[1]}") + "_reverse" * int(name.split(".")[3]): weight
            for name, weight in saved.items()
        }
    )
    inputs, lengths = torch.randn(3, 9, INPUT), torch.tensor([9, 9, 9])
    expected = fused(inputs, lengths)
    torch.testing.assert_close(by_cell(inputs, lengths), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(module(inputs)[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_given_state_that_does_not_fit_is_refused(cell: str) -> None:
    encoder, lengths = make_encoder(cell, "auto", 2, True, "zeros"), torch.tensor([4, 2, 1])
    inputs, good = torch.randn(3, 4, INPUT), torch.zeros(4, 3, HIDDEN)
    parts = 2 if cell == "lstm" else 1
    assert torch.equal(encoder(inputs, lengths, [good] * parts), encoder(inputs, lengths))
    for bad in (torch.zeros(6, 3, HIDDEN), torch.zeros(4, 1, HIDDEN), good.double()):
        with pytest.raises(ValueError, match=r"h is .* must be \(4, 3, 4\), torch.float32"):
            encoder(inputs, lengths, [bad] * parts)
    with pytest.raises(ValueError, match="takes"):
        encoder(inputs, lengths, [good] * (3 - parts))
    layer = RecurrentLayer(cell, INPUT, HIDDEN, bidirectional=True)
    with pytest.raises(ValueError, match=r"must be \(2, 3, 4\)"):
        layer(inputs, lengths, [good] * parts)


@pytest.mark.parametrize("cell", CELLS)
def test_cell_follows_autocast(cell: str) -> None:
    encoder, lengths = make_encoder(cell, "cell", 2, True, "learned"), torch.tensor([5, 5, 2])
    inputs = torch.randn(3, 5, INPUT)
    exact = encoder(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(inputs, lengths)
    rounded.sum().backward()
    assert 0 < float((rounded.float() - exact).abs().max().detach()) < 0.05  # bfloat16 has 8 bits


@pytest.mark.parametrize("cell", CELLS)
def test_state_dict_does_not_depend_on_the_implementation(cell: str) -> None:
    states = [make_encoder(cell, name, 2, True, "learned").state_dict() for name in ("auto", "packed", "cell")]
    assert list(states[0]) == list(states[1]) == list(states[2])
    learned = [key for key in states[0] if "initial" in key]
    assert len(learned) == 4 * (2 if cell == "lstm" else 1)


@given(lengths=LENGTHS, features=st.integers(1, 3))
def test_reverse_by_length_turns_each_review_round(lengths: list[int], features: int) -> None:
    time, batch = max(lengths) + 1, len(lengths)
    steps = torch.arange(time * batch * features).reshape(time, batch, features)
    turned = reverse_by_length(steps, torch.tensor(lengths))
    for review, length in enumerate(lengths):
        assert torch.equal(turned[:length, review], steps[:length, review].flip(0))
        assert torch.equal(turned[length:, review], steps[length:, review])


def test_reverse_by_length_has_the_right_gradient_twice() -> None:
    steps = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 1, 3])

    def turn(x: Tensor) -> Tensor:
        return reverse_by_length(x, lengths)

    assert torch.autograd.gradcheck(turn, steps)
    assert torch.autograd.gradgradcheck(turn, steps)


def test_fused_never_waits_for_the_device() -> None:
    # Reading a value of a tensor on the device "meta" raises, so that a forward pass there has read none.
    layer = RecurrentLayer("gru", INPUT, HIDDEN, bidirectional=True, implementation="auto").to("meta")
    lengths = torch.empty(3, dtype=torch.int64, device="meta")
    assert layer(torch.empty(3, 7, INPUT, device="meta"), lengths).shape == (3, 7, 2 * HIDDEN)


def test_a_cell_without_a_kernel_is_a_loop() -> None:
    weights = torch.empty(0)
    assert choose_implementation("auto", "mgu", weights) == "cell"
    assert choose_implementation("cell", "mgu", weights) == "cell"
    with pytest.raises(InputError, match=r"no kernel for mgu; type model\.implementation=auto"):
        choose_implementation("fused", "mgu", weights)
