"""Rewrites of an imported ONNX graph that keep what it computes.

Sizes become scales, so that another input size works; operators that exporters write in pieces are
put together again, because runtimes have one fast kernel for the whole; and ShuffleNet units become
plain convolutions, because moving channels takes longer than the multiplications that replace it.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from okdhp_edge.network.graph_view import (
    CHANNEL_SHUFFLE,
    GraphView,
    get_attributes,
    replace_nodes,
)
from okdhp_edge.network.shuffle_units import fold_shuffle_units

_HARD_SIGMOID_SLOPE, _HARD_SIGMOID_OFFSET = 1 / 6, 0.5


def rewrite_imported_graph(model: onnx.ModelProto) -> None:
    """All rewrites of this module, in place."""
    _replace_sizes_by_scales(model)
    _free_batch_in_reshapes(model.graph)
    replace_nodes(model.graph, _merge_channel_shuffles(GraphView(model.graph)))
    replace_nodes(model.graph, _merge_hard_swishes(GraphView(model.graph)))
    fold_shuffle_units(model.graph)
    del model.graph.value_info[:]


def _replace_sizes_by_scales(model: onnx.ModelProto) -> None:
    """Sizes that a file was exported with become scales."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    constants = GraphView(model.graph).constants
    for node in model.graph.node:
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            wanted = constants[node.input[3]].astype(np.float32)
            scales = wanted / np.array(shapes[node.input[0]], np.float32)
            name = f"{node.output[0]}_scales"
            model.graph.initializer.append(numpy_helper.from_array(scales, name))
            kept = [node.input[0], "", name]
            del node.input[:]
            node.input.extend(kept)


def _free_batch_in_reshapes(graph: onnx.GraphProto) -> None:
    """The first size of a shape without -1 holds the batch that a file was exported with."""
    constants = GraphView(graph).constants
    for node in graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and len(shape) > 1 and -1 not in shape:
            # Of its own: other operators may share the constant.
            node.input[1] = f"{node.output[0]}_shape"
            free = np.concatenate([[-1], shape[1:]]).astype(np.int64)
            graph.initializer.append(numpy_helper.from_array(free, node.input[1]))


def _merge_channel_shuffles(graph: GraphView) -> Iterator[onnx.NodeProto]:
    """Reshape, Transpose, Reshape over two groups of channels: one node each."""
    shuffles: dict[str, onnx.NodeProto] = {}
    merged: set[str] = set()
    for last in graph.nodes:
        middle = graph.find_maker(last.input[0], "Transpose") if last.op_type == "Reshape" else None
        first = graph.find_maker(middle.input[0], "Reshape") if middle else None
        if first is None or middle is None:
            continue
        shape = graph.constants.get(first.input[1])
        order = get_attributes(middle)["perm"]
        if shape is not None and len(shape) == 5 and list(order) == [0, 2, 1, 3, 4]:
            shuffles[last.output[0]] = helper.make_node(
                CHANNEL_SHUFFLE, [first.input[0]], [last.output[0]], groups=int(shape[1])
            )
            merged |= {first.output[0], middle.output[0]}
    for node in graph.nodes:
        if node.output[0] not in merged:
            yield shuffles.get(node.output[0], node)


def _merge_hard_swishes(graph: GraphView) -> Iterator[onnx.NodeProto]:
    """x * HardSigmoid(x) is HardSwish, which runtimes compute within the convolution before it.

    Of the two pieces OpenVINO 2026.2 computes the first by its reference implementation, and
    reorders the tensor before and after it.
    """
    merged: dict[str, onnx.NodeProto] = {}
    gates: set[str] = set()
    for node in graph.nodes:
        if node.op_type != "Mul":
            continue
        for x, gate in (node.input, tuple(reversed(node.input))):
            maker = graph.find_maker(gate, "HardSigmoid")
            if maker is None or maker.input[0] != x or not graph.has_one_reader(gate):
                continue
            given = get_attributes(maker)
            slope, offset = given.get("alpha", 0.2), given.get("beta", 0.5)
            if np.allclose([slope, offset], [_HARD_SIGMOID_SLOPE, _HARD_SIGMOID_OFFSET]):
                merged[node.output[0]] = helper.make_node("HardSwish", [x], [node.output[0]])
                gates.add(gate)
    for node in graph.nodes:
        if node.output[0] not in gates:
            yield merged.get(node.output[0], node)
