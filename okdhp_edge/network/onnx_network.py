"""A pose network that others made, from its ONNX file: trained, distilled, exported like one of
ours.

Its graph, without the weights, is part of the recipe, so that a checkpoint needs no other file. The
last convolution becomes the branches' heads; where the file's heatmap cells lie elsewhere than
ours, the heads begin with the interpolation from one grid to the other.
"""

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.utils import Extractor
from torch import nn

from okdhp_edge.artifacts.external_model import (
    ExternalInputSpec,
    ExternalPoseSpec,
    read_input_spec,
    read_pose_spec,
)
from okdhp_edge.artifacts.onnx_graph import drop_unused_initializers
from okdhp_edge.errors import ModelError
from okdhp_edge.network.onnx_module import CHANNEL_SHUFFLE, OnnxModule, UnknownOperatorError
from okdhp_edge.pose.crop import HeatmapGrid

_FLOAT_BYTES = 4


class OnnxNetwork(NamedTuple):
    """A network file.

    Attributes:
        graph: from the input to the features that the branches read, without weights.
        weights: of its convolutions by name, in the order of the graph.
        head: of the last convolution, which the branches replace; None where they begin anew.
        spec: how it is fed.
        stride: pixels of the input to a cell of the features.
    """

    graph: onnx.ModelProto
    weights: dict[str, NDArray[np.float32]]
    head: "OnnxHead | None"
    spec: ExternalInputSpec
    stride: int


class OnnxHead(NamedTuple):
    """The last convolution of a pose network.

    Attributes:
        weight: (K, C, 1, 1).
        bias: (K,).
        spec: what its heatmaps are.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    spec: ExternalPoseSpec


def read_onnx_network(path: Path, features: str | None = None) -> OnnxNetwork:
    """Read an ONNX file and the TOML file next to it.

    Args:
        features: name of the tensor that branches read; None: what the last convolution reads.

    Raises:
        ModelError: it is no such file, or no network that can be trained here.
    """
    import onnxsim

    spec = (
        read_pose_spec(path, "network", "network.file")
        if features is None
        else read_input_spec(path)
    )
    if spec.layout != "NCHW":
        raise ModelError(f"{path} cannot be trained here", "it needs NCHW input")
    model, _ = onnxsim.simplify(onnx.load(str(path)), check_n=0)
    head = None
    if isinstance(spec, ExternalPoseSpec):
        head, features = _read_head(path, model, spec)
    if not any(features in node.output for node in model.graph.node):
        raise ModelError(f"{path} has no tensor {features}", "correct network.features")
    assert features is not None
    stride = _find_stride(model, features)
    source = model.graph.input[0].name
    extracted = Extractor(model).extract_model([source], [features])
    _make_independent_of_size(extracted)
    try:
        OnnxModule(extracted, features)
    except UnknownOperatorError as error:
        raise ModelError(f"{path} has operators that cannot be trained here ({error})",
                         "use it as a teacher") from error  # fmt: skip
    weights = _take_weights(extracted)
    if spec.colour == "RGB":
        _swap_colours(path, extracted, weights)
    return OnnxNetwork(extracted, weights, head, spec, stride)


def _read_head(path: Path, model: onnx.ModelProto, spec: ExternalPoseSpec) -> tuple[OnnxHead, str]:
    """The last convolution, and the name of the features that it reads."""
    if spec.reads != "heatmaps" or spec.grid is HeatmapGrid.CORNERS:
        raise ModelError(
            f"{path} cannot be trained here", "it needs heatmaps on a grid of centers or origin"
        )
    output = spec.output or model.graph.output[0].name
    initializers = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    node = next((n for n in model.graph.node if output in n.output), None)
    if node is None or node.op_type != "Conv" or initializers[node.input[1]].shape[2:] != (1, 1):
        raise ModelError(f"{path} does not end in a 1x1 convolution", "set output in its .toml")
    weight = initializers[node.input[1]]
    bias = initializers[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
    return OnnxHead(weight, bias, spec), node.input[0]


def describe_onnx_network(path: Path, features: str | None) -> dict[str, Any]:
    """Read a file into the keys of `[network]` that it sets.

    Raises:
        ModelError: see `read_onnx_network`.
    """
    found = read_onnx_network(path, features)
    order = slice(None, None, -1) if found.spec.colour == "RGB" else slice(None)
    return {
        "graph": encode_graph(found.graph), "stride": found.stride,
        "mean": found.spec.mean[order], "std": found.spec.std[order],
    }  # fmt: skip


def encode_graph(graph: onnx.ModelProto) -> str:
    """Compressed text of a graph whose weights were taken out."""
    return base64.b64encode(zlib.compress(graph.SerializeToString(), 9)).decode()


def build_trunk(graph: str) -> tuple[OnnxModule, int]:
    """A freshly initialized network of a graph, and the channels of its features.

    Raises:
        ModelError: the text is no graph.
    """
    try:
        model = onnx.load_model_from_string(zlib.decompress(base64.b64decode(graph)))
    except Exception as error:
        raise ModelError(f"network.graph cannot be read ({error})", "set network.file") from error
    for tensor in model.graph.initializer:
        if not tensor.raw_data and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = bytes(_FLOAT_BYTES * int(np.prod(tensor.dims)))
    trunk = OnnxModule(model, model.graph.output[0].name, trainable=True)
    for parameter in trunk.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[2:])
    with torch.no_grad():
        channels = trunk(torch.zeros(1, 3, height, width)).shape[1]
    return trunk, channels


def make_head_weights(head: OnnxHead, stride: int) -> NDArray[np.float32]:
    """(K, C, 3, 3) weights of a head that reads the file's heatmaps on this project's grid.

    Cell j of ours lies at pixel stride * j + (stride - 1) / 2. Between the file's cells its value
    is interpolated linearly; the description's offsets move it likewise.
    """
    weight, _, spec = head
    shift = (stride - 1) / (2 * stride) if spec.grid is HeatmapGrid.ORIGIN else 0.0
    offset_K2 = np.broadcast_to(np.asarray(spec.offset, np.float64), (len(weight), 2))
    kernel_x, kernel_y = (_make_taps(shift - offset_K2[:, axis]) for axis in (0, 1))
    taps = kernel_y[:, None, :, None] * kernel_x[:, None, None, :]
    return np.asarray(weight * taps, np.float32)


def _make_taps(shift_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 3) linear interpolation between neighbours -1, 0 and 1."""
    places = np.arange(-1, 2)
    return np.maximum(0.0, 1.0 - np.abs(places[None] - np.clip(shift_K, -1, 1)[:, None]))


def _find_stride(model: onnx.ModelProto, features: str) -> int:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = next(v for v in (*graph.value_info, *graph.output) if v.name == features)
    height = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    return int(height // found.type.tensor_type.shape.dim[2].dim_value)


def _take_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Move the convolutions' weights out of a graph, which keeps their shapes."""
    used = [name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]]
    tensors = {t.name: t for t in model.graph.initializer}
    weights = {name: numpy_helper.to_array(tensors[name]).astype(np.float32) for name in used}
    for name in used:
        empty = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT)
        empty.dims.extend(tensors[name].dims)
        tensors[name].CopyFrom(empty)
    return weights


def _swap_colours(
    path: Path, model: onnx.ModelProto, weights: dict[str, NDArray[np.float32]]
) -> None:
    """The first convolution reads BGR from here on, as every network here."""
    source = model.graph.input[0].name
    readers = [node for node in model.graph.node if source in node.input]
    if any(node.op_type != "Conv" for node in readers):
        raise ModelError(f"{path} changes its input before the first convolution",
                         "describe that by mean and std in its .toml")  # fmt: skip
    for node in readers:
        weights[node.input[1]] = np.ascontiguousarray(weights[node.input[1]][:, ::-1])


def _make_independent_of_size(model: onnx.ModelProto) -> None:
    """Sizes that a file was exported with become scales, and channel shuffles one operation."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            wanted = constants[node.input[3]].astype(np.float32)
            scales = wanted / np.array(shapes[node.input[0]], np.float32)
            name = f"{node.output[0]}_scales"
            model.graph.initializer.append(numpy_helper.from_array(scales, name))
            kept = [node.input[0], "", name]
            del node.input[:]
            node.input.extend(kept)
    replaced = list(_merge_channel_shuffles(model.graph.node, constants))
    del model.graph.node[:]
    model.graph.node.extend(replaced)
    drop_unused_initializers(model.graph)
    del model.graph.value_info[:]


def _merge_channel_shuffles(
    nodes: Any, constants: dict[str, NDArray[Any]]
) -> Iterator[onnx.NodeProto]:
    """Reshape, Transpose, Reshape over two groups of channels: one node each."""
    makers = {node.output[0]: node for node in nodes}
    shuffles: dict[str, onnx.NodeProto] = {}
    merged: set[str] = set()
    for last in nodes:
        middle = makers.get(last.input[0]) if last.op_type == "Reshape" else None
        first = makers.get(middle.input[0]) if middle and middle.op_type == "Transpose" else None
        if first is None or middle is None or first.op_type != "Reshape":
            continue
        shape = constants.get(first.input[1])
        order = helper.get_attribute_value(middle.attribute[0])
        if shape is not None and len(shape) == 5 and list(order) == [0, 2, 1, 3, 4]:
            shuffles[last.output[0]] = helper.make_node(
                CHANNEL_SHUFFLE, [first.input[0]], [last.output[0]], groups=int(shape[1])
            )
            merged |= {first.output[0], middle.output[0]}
    for node in nodes:
        if node.output[0] not in merged:
            yield shuffles.get(node.output[0], node)
