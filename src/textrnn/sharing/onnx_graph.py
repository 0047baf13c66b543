"""A network as an ONNX graph, built from its parameters with ONNX's own RNN, LSTM and GRU.

Tracing would freeze the number of tokens. ONNX's operators read each review to its own length in both directions
(`sequence_lens`), so the numbers of reviews and of tokens stay free.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textrnn.config.schema import PAD_ID, ModelConfig
from textrnn.model.embedding import HashedBigrams
from textrnn.model.network import TextClassifier
from textrnn.model.recurrent import Direction

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 18
IR_VERSION = 8
"""Versions that ONNX Runtime reads from 1.14 on."""

GATE_ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Places, among torch's gates (lstm: i, f, g, o; gru: r, z, n), of ONNX's gates: lstm i, o, f, c; gru z, r, h.

https://onnx.ai/onnx/operators/onnx__LSTM.html and onnx__GRU.html
"""

Array = npt.NDArray[np.float32]


def onnx_model(
    network: TextClassifier,
    config: ModelConfig,
    *,
    description: str,
    many_labels: bool = False,
    temperature: float = 1.0,
) -> "ModelProto":
    """Return the network as an ONNX model.

    Its inputs are `token_ids` (batch, time) int64, padded with 0, and `lengths` (batch,) int64, each from 1 to time.
    Its outputs are `logits`, (batch,) for two classes of which a text has one and else (batch, classes), and
    `probabilities` (batch, classes), both float32.

    Args:
        network: The network, in evaluation mode.
        config: Its configuration.
        description: Text that is kept in the model.
        many_labels: Whether a text may have several labels.
        temperature: What the logits are divided by for the probabilities.
    """
    return _Graph(network, config, many_labels=many_labels, temperature=temperature).model(description)


class _Graph:
    """The nodes and weights of a graph, in the order of computation; tensors are time-major inside."""

    def __init__(self, network: TextClassifier, config: ModelConfig, *, many_labels: bool, temperature: float) -> None:
        self._network, self._config, self._many_labels = network, config, many_labels
        self._temperature = temperature
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, npt.NDArray[Any]] = {}

    def model(self, description: str) -> "ModelProto":
        """Build the graph."""
        from onnx import TensorProto, checker, helper, numpy_helper

        self._embed()
        states, last = self._encode()
        self._pool(states, last)
        several = self._classify()
        wide: list[str | int | None] = ["batch", several] if self._network.output.out_features > 1 else ["batch"]
        graph = helper.make_graph(
            self._nodes,
            "textrnn",
            [
                helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["batch", "time"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
            ],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, wide),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", several]),
            ],
            [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in self._weights.items()],
            doc_string=description,
        )
        opset = helper.make_operatorsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="textrnn", ir_version=IR_VERSION)
        checker.check_model(model, full_check=True)
        return model

    def _add(self, operator: str, inputs: list[str], output: str | list[str], **attributes: Any) -> None:
        from onnx import helper

        outputs = [output] if isinstance(output, str) else output
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def _constant(self, name: str, value: Any, kind: Any = np.int64) -> str:
        self._weights[name] = np.asarray(value, dtype=kind)
        return name

    def _embed(self) -> None:
        """token_ids (batch, time) -> vectors (time, batch, size)."""
        bigrams = self._network.embedding.bigrams
        words = "vectors" if bigrams is None else "words"
        self._add("Transpose", ["token_ids"], "ids_by_time", perm=[1, 0])
        if self._config.embedding.kind == "onehot":
            depth = self._constant("vocabulary", self._network.embedding.size)
            values = self._constant("off_on", [0.0, 1.0], np.float32)
            self._add("OneHot", ["ids_by_time", depth, values], words, axis=-1)
        else:
            table = self._network.embedding.table
            self._weights["embedding"] = _array(table.weight)
            self._add("Gather", ["embedding", "ids_by_time"], words, axis=0)
        if bigrams is not None:
            self._add_bigrams(bigrams)
        self._add("Cast", ["lengths"], "lengths_32", to=6)  # int32, for the recurrent operators

    def _add_bigrams(self, bigrams: HashedBigrams) -> None:
        """words -> vectors: add those of the bigrams; the rows are `bigram_rows` in ONNX's integers, of 64 bits."""
        begin, second, end = (self._constant(name, [value]) for name, value in (("0", 0), ("1", 1), ("-1", -1)))
        first, most = self._constant("axis_0", [0]), self._constant("most", [np.iinfo(np.int64).max])
        self._add("Slice", ["ids_by_time", begin, end, first], "previous")
        self._add("Slice", ["ids_by_time", second, most, first], "current")
        bits, high = self._constant("bits", 0xFFFFFFFF), self._constant("high", 1 << 16)
        self._add("Mul", ["previous", self._constant("factor", 1_000_003)], "scaled")
        self._add("Add", ["scaled", "current"], "summed")
        self._add("BitwiseAnd", ["summed", bits], "h0")
        self._add("Div", ["h0", high], "h0_high")
        self._add("BitwiseXor", ["h0", "h0_high"], "h1")
        self._add("Mul", ["h1", self._constant("mixer", 0x45D9F3B)], "h2")
        self._add("BitwiseAnd", ["h2", bits], "h3")
        self._add("Div", ["h3", high], "h3_high")
        self._add("BitwiseXor", ["h3", "h3_high"], "h4")
        self._add("Mod", ["h4", self._constant("rows", bigrams.table.num_embeddings - 1)], "h5")
        self._add("Add", ["h5", self._constant("from_1", 1)], "row")
        self._add("Equal", ["current", self._constant("padding", PAD_ID)], "is_padding")
        self._add("Where", ["is_padding", self._constant("none", 0), "row"], "row_or_none")
        self._add("Slice", ["ids_by_time", begin, second, first], "first_ids")
        self._add("Mul", ["first_ids", self._constant("nil", 0)], "no_row")
        self._add("Concat", ["no_row", "row_or_none"], "bigram_rows", axis=0)
        self._weights["bigrams"] = _array(bigrams.table.weight)
        self._add("Gather", ["bigrams", "bigram_rows"], "pairs", axis=0)
        self._add("Add", ["words", "pairs"], "vectors")

    def _encode(self) -> tuple[str, str]:
        """vectors -> the names of the states (time, batch, features) and of those at the end, (batch, features)."""
        flat = self._constant("flat", [0, 0, -1])
        inputs = "vectors"
        for number, layer in enumerate(self._network.encoder.layers):
            directions: list[Direction] = list(layer.directions)  # type: ignore[arg-type]
            self._recur(f"layer_{number}", inputs, directions)
            self._add("Transpose", [f"layer_{number}/y"], f"layer_{number}/by_review", perm=[0, 2, 1, 3])
            self._add("Reshape", [f"layer_{number}/by_review", flat], f"layer_{number}", allowzero=0)
            inputs = f"layer_{number}"
        pair = self._constant("pair", [0, -1])
        self._add("Transpose", [f"{inputs}/end"], "end_by_review", perm=[1, 0, 2])
        self._add("Reshape", ["end_by_review", pair], "end", allowzero=0)
        return inputs, "end"

    def _recur(self, name: str, inputs: str, directions: list[Direction]) -> None:
        cell, hidden = directions[0].cell, directions[0].kernel.hidden_size
        order = GATE_ORDER[cell]
        stacked = [[_reordered(_array(weight), order) for weight in each.weights_and_biases] for each in directions]
        for key, places in (("w", (0,)), ("r", (1,)), ("b", (2, 3))):
            parts = [np.concatenate([weights[place] for place in places]) for weights in stacked]
            self._weights[f"{name}/{key}"] = np.stack(parts)
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if len(directions) == 2 else "forward",
        }
        if cell == "gru":
            attributes["linear_before_reset"] = 1  # as torch: reset after the product
        if directions[0].relu:
            attributes["activations"] = ["Relu"] * len(directions)
        wanted = [f"{name}/w", f"{name}/r", f"{name}/b", "lengths_32", *self._initial(name, directions)]
        self._add(cell.upper(), [inputs, *wanted], [f"{name}/y", f"{name}/end"], **attributes)

    def _initial(self, name: str, directions: list[Direction]) -> list[str]:
        """Return the names of learned initial states, (directions, batch, hidden) each; none for zeros."""
        parts = [[_array(part) for part in each.initial] for each in directions]
        if not parts[0]:
            return []
        if "batch" not in {node.output[0] for node in self._nodes}:
            self._add("Shape", ["lengths"], "batch")
        ends = [self._constant(f"{name}/{end}", [size]) for end, size in (("before", len(parts)), ("after", -1))]
        self._weights[ends[1]] = np.asarray([directions[0].kernel.hidden_size])
        self._add("Concat", [ends[0], "batch", ends[1]], f"{name}/shape", axis=0)
        names = []
        for number, part in enumerate(zip(*parts, strict=True)):
            self._weights[f"{name}/initial_{number}"] = np.stack(part)[:, None, :]
            self._add("Expand", [f"{name}/initial_{number}", f"{name}/shape"], f"{name}/state_{number}")
            names.append(f"{name}/state_{number}")
        return names

    def _pool(self, states: str, end: str) -> None:
        """States (time, batch, features) -> pooled (batch, features)."""
        kind = self._config.pooling
        if kind == "last":
            self._add("Identity", [end], "pooled")
            return
        zero, one = self._constant("zero", 0), self._constant("one", 1)
        first, two = self._constant("first", [0]), self._constant("axes", [1, 2])
        self._add("Shape", [states], "time_1", start=0, end=1)
        self._add("Squeeze", ["time_1", first], "time")
        self._add("Range", [zero, "time", one], "places")
        self._add("Unsqueeze", ["places", two], "places_3")  # (time, 1, 1)
        self._add("Unsqueeze", ["lengths", self._constant("around", [0, 2])], "lengths_3")  # (1, batch, 1)
        self._add("Less", ["places_3", "lengths_3"], "is_token")
        pooled = []
        if kind in ("max", "max_mean"):
            self._add("Where", ["is_token", states, self._constant("lowest", -np.inf, np.float32)], "without_padding")
            self._add("ReduceMax", ["without_padding", first], "largest", keepdims=0)
            pooled.append("largest")
        if kind in ("mean", "max_mean"):
            self._add("Where", ["is_token", states, self._constant("nothing", 0.0, np.float32)], "tokens_alone")
            self._add("ReduceSum", ["tokens_alone", first], "sum", keepdims=0)
            self._add("Cast", ["lengths"], "lengths_float", to=1)
            self._add("Unsqueeze", ["lengths_float", self._constant("last_axis", [1])], "lengths_column")
            self._add("Div", ["sum", "lengths_column"], "mean")
            pooled.append("mean")
        self._add("Concat", pooled, "pooled", axis=1)

    def _classify(self) -> int:
        """Pooled -> logits and probabilities; return the number of classes."""
        output, temperature = self._network.output, self._constant("temperature", self._temperature, np.float32)
        self._weights["output/w"], self._weights["output/b"] = _array(output.weight), _array(output.bias)
        if output.out_features > 1:
            self._add("Gemm", ["pooled", "output/w", "output/b"], "logits", transB=1)
            self._add("Div", ["logits", temperature], "calibrated")
            if self._many_labels:
                self._add("Sigmoid", ["calibrated"], "probabilities")
            else:
                self._add("Softmax", ["calibrated"], "probabilities", axis=1)
            return output.out_features
        self._add("Gemm", ["pooled", "output/w", "output/b"], "logit_column", transB=1)
        self._add("Squeeze", ["logit_column", self._constant("column", [1])], "logits")
        self._add("Div", ["logit_column", temperature], "calibrated")
        self._add("Sigmoid", ["calibrated"], "second")
        self._add("Sub", [self._constant("whole", 1.0, np.float32), "second"], "first_class")
        self._add("Concat", ["first_class", "second"], "probabilities", axis=1)
        return 2


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().cpu().float().numpy()
    return array


def _reordered(weight: Array, order: tuple[int, ...]) -> Array:
    """Return a stack of gates, (gates * hidden, ...), in another order."""
    gates = np.split(weight, len(order))
    return np.concatenate([gates[place] for place in order])
