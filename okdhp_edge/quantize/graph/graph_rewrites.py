"""Graph rewrites that keep a Q/DQ file in INT8 from input to heatmaps in ONNX Runtime.

Measured on the networks of `benchmarks/speed/int8.py`: without these an hourglass spends a quarter
of its time in float batch norms and the layout changes around them, and a small net an eighth in
subtracting the mean of the image; doubling bytes by Resize is a tenth of either.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from okdhp_edge.network.graph_view import (
    drop_unused_initializers,
    get_attributes,
    replace_nodes,
)

_DEFAULT_BN_EPSILON = 1e-5


def convert_batch_norms_to_convolutions(source: Path, target: Path) -> None:
    """Batch norms that no convolution has taken in become depthwise 1x1 convolutions, exactly.

    One weight a channel, with a scale of its own in INT8, loses nothing by rounding.
    """
    model = onnx.load(str(source))
    graph = model.graph
    values = {i.name: i for i in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        gamma, beta, mean, variance = (numpy_helper.to_array(values[n]) for n in node.input[1:5])
        epsilon = get_attributes(node).get("epsilon", _DEFAULT_BN_EPSILON)
        gain = gamma / np.sqrt(variance + epsilon)
        weight, bias = f"{node.name}_gain", f"{node.name}_offset"
        graph.initializer.extend(
            [
                numpy_helper.from_array(gain.reshape(-1, 1, 1, 1).astype(np.float32), weight),
                numpy_helper.from_array((beta - mean * gain).astype(np.float32), bias),
            ]
        )
        nodes.append(
            helper.make_node(
                "Conv",
                [node.input[0], weight, bias],
                [node.output[0]],
                name=node.name,
                group=len(gain),
                kernel_shape=[1, 1],
            )
        )
    replace_nodes(graph, nodes)
    onnx.save(model, str(target))


def absorb_normalization(path: Path) -> None:
    """Where the image's steps are whole pixels, read them as they come.

    Cast, Transpose, Sub and QuantizeLinear then only give back the image's own bytes: with steps
    of one pixel value and the mean as zero-point. Files with another normalisation stay as they
    are.
    """
    model = onnx.load(str(path))
    graph = model.graph
    readers = {i: n for n in graph.node for i in n.input}
    chain = [readers[graph.input[0].name]]
    for _ in range(3):
        following = readers.get(chain[-1].output[0])
        if following is None:
            return
        chain.append(following)
    if [n.op_type for n in chain] != ["Cast", "Transpose", "Sub", "QuantizeLinear"]:
        return
    cast, transpose, subtract, quantize = chain
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    mean, scale, zero = (
        values.get(name) for name in (subtract.input[1], quantize.input[1], quantize.input[2])
    )
    pixels = np.arange(256.0)
    if mean is None or scale is None or zero is None or zero.dtype != np.uint8:
        return
    steps = np.round((pixels - mean.reshape(-1, 1)) / scale) + zero
    if not (steps == pixels).all():
        return
    transpose.input[0] = cast.input[0]
    readers[quantize.output[0]].input[0] = transpose.output[0]
    for node in (cast, subtract, quantize):
        graph.node.remove(node)
    # What is said of the transposed image's type is no longer so.
    kept = [v for v in graph.value_info if v.name != transpose.output[0]]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    drop_unused_initializers(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def quantize_after_hard_swish(path: Path) -> None:
    """Only the result of a HardSwish is quantized, not the convolution's before it.

    Values far below zero become zero anyway, and took half of the steps. OpenVINO computes both in
    one kernel; ONNX Runtime would compute the convolution in float, so its files are left alone.
    """
    model = onnx.load(str(path))
    graph = model.graph
    makers = {o: n for n in graph.node for o in n.output}
    for node in graph.node:
        dequantize = makers.get(node.input[0]) if node.op_type == "HardSwish" else None
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize = makers.get(dequantize.input[0])
        maker = makers.get(quantize.input[0]) if quantize is not None else None
        if quantize is not None and maker is not None and maker.op_type == "Conv":
            node.input[0] = quantize.input[0]
    _drop_unread_nodes(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _drop_unread_nodes(graph: onnx.GraphProto) -> None:
    used = {i for n in graph.node for i in n.input} | {o.name for o in graph.output}
    # A node may be all that reads another one.
    while unread := [n for n in graph.node if not used & set(n.output)]:
        for node in unread:
            graph.node.remove(node)
        used = {i for n in graph.node for i in n.input} | {o.name for o in graph.output}
    drop_unused_initializers(graph)


def upsample_by_concat(path: Path) -> None:
    """Nearest-neighbour doubling of bytes as copies of columns and then of rows, exactly.

    ONNX Runtime runs its convolutions channels last, where Resize goes element by element. There
    pixels lie one after the other, so Concat copies them whole, and Reshape moves nothing; the
    Transposes cancel those around the convolutions.
    """
    model = onnx.load(str(path))
    graph = model.graph
    shapes = {v.name: v.type.tensor_type.shape.dim
              for v in onnx.shape_inference.infer_shapes(model).graph.value_info}  # fmt: skip
    makers = {o: n for n in graph.node for o in n.output}
    for node in [n for n in graph.node if n.op_type == "Resize"]:
        readers = [n for n in graph.node if node.output[0] in n.input]
        dims = [d.dim_value for d in shapes.get(node.input[0], ())][1:]
        doubled = [d.dim_value for d in shapes.get(node.output[0], ())][1:]
        before = makers.get(node.input[0])
        bytes_ = (
            before is not None and before.op_type == "DequantizeLinear"
            and [n.op_type for n in readers] == ["QuantizeLinear"]
            and list(before.input[1:]) == list(readers[0].input[1:])
        )  # fmt: skip
        if before is None or not bytes_ or not _is_doubling(node, dims, doubled):
            continue
        copies = _make_upsampling_nodes(
            graph, node.name, before.input[0], readers[0].output[0], dims
        )
        place = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.remove(readers[0])
        for offset, copy in enumerate(copies):
            graph.node.insert(place + offset, copy)
    _drop_unread_nodes(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _is_doubling(resize: onnx.NodeProto, dims: list[int], doubled: list[int]) -> bool:
    facts = get_attributes(resize)
    nearest = (facts.get("mode"), facts.get("coordinate_transformation_mode"),
               facts.get("nearest_mode")) == (b"nearest", b"asymmetric", b"floor")  # fmt: skip
    return nearest and 0 not in dims and doubled == [dims[0], 2 * dims[1], 2 * dims[2]]


def _make_upsampling_nodes(
    graph: onnx.GraphProto, name: str, source: str, target: str, dims: list[int]
) -> list[onnx.NodeProto]:
    """(N, C, H, W) to (N, C, 2H, 2W)."""
    channels, height, width = dims
    sizes = {"row": [0, 0, -1], "image": [0, 2 * height, 2 * width, channels]}
    for shape, values in sizes.items():
        constant = np.array(values, dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(constant, f"{name}_{shape}"))

    def step(kind: str, inputs: list[str], output: str, **facts: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{output}_step", **facts)

    last, pairs, rows, twice, image = (f"{name}_{part}" for part in
                                         ("last", "pairs", "rows", "twice", "doubled"))  # fmt: skip
    return [
        step("Transpose", [source], last, perm=[0, 2, 3, 1]),
        step("Concat", [last, last], pairs, axis=3),
        step("Reshape", [pairs, f"{name}_row"], rows),
        step("Concat", [rows, rows], twice, axis=2),
        step("Reshape", [twice, f"{name}_image"], image),
        step("Transpose", [image], target, perm=[0, 3, 1, 2]),
    ]
