"""What keeps a Q/DQ file for ONNX Runtime in INT8 from pixel to heatmap.

Measured on the networks of `benchmarks/int8.py`: without these an hourglass spends a quarter of its
time in float batch norms and the layout changes around them, and a small net an eighth in
subtracting the mean of the picture.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

_EPSILON = 1e-5


def norms_to_convolutions(source: Path, target: Path) -> None:
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
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), _EPSILON)
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
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    onnx.save(model, str(target))


def take_pixels(path: Path) -> None:
    """Where the picture's steps are whole pixels, read them as they come.

    Cast, Transpose, Sub and QuantizeLinear then only give back the picture's own bytes: with steps
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
    # What is said of the transposed picture's type is no longer so.
    kept = [v for v in graph.value_info if v.name != transpose.output[0]]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def drop_unused(graph: onnx.GraphProto) -> None:
    """Initializers that no node reads go."""
    used = {i for n in graph.node for i in n.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
