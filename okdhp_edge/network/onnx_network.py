"""A pose network that others made, from its ONNX file: trained, distilled, exported like one of
ours.

Its graph, without the weights, is part of the recipe, so that a checkpoint needs no other file. The
last convolution becomes the branches' heads; where the file's heatmap cells lie elsewhere than
ours, the heads begin with the interpolation from one grid to the other.
"""

import base64
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.utils import Extractor
from torch import nn

from okdhp_edge.artifacts.external_model import (
    ExternalInputSpec,
    ExternalPoseSpec,
    read_input_spec,
    read_pose_spec,
)
from okdhp_edge.errors import ModelError, to_one_line
from okdhp_edge.network.onnx_module import OnnxModule, UnknownOperatorError
from okdhp_edge.network.onnx_rewrites import rewrite_imported_graph
from okdhp_edge.pose.center_map import BOX_CHANNELS
from okdhp_edge.pose.crop import HeatmapGrid

_FLOAT_BYTES = 4
_BOX_ROWS_RANK = 3


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


def read_onnx_network(
    path: Path, features: str | None = None, *, boxes: bool = False
) -> OnnxNetwork:
    """Read an ONNX file and the TOML file next to it.

    Args:
        features: name of the tensor that branches read; None: what the last convolution reads.
        boxes: whether it is a detector that keeps its output, `network.boxes`.

    Raises:
        ModelError: it is no such file, or no network that can be trained here.
    """
    import onnxsim

    spec = (
        read_pose_spec(path, "network", "network.file")
        if features is None and not boxes
        else read_input_spec(path)
    )
    if spec.layout != "NCHW":
        raise ModelError(f"{path} cannot be trained here", "it needs NCHW input")
    try:
        model, _ = onnxsim.simplify(_load(path), check_n=0)
    except RuntimeError as error:  # what it raises of any file that is no model
        raise ModelError(
            f"{path} is no ONNX model ({to_one_line(str(error), 120)})", "export it again"
        ) from error
    head = None
    if isinstance(spec, ExternalPoseSpec):
        head, features = _read_head(path, model, spec)
    elif boxes:
        features = _find_boxes(path, model)
    if not any(features in node.output for node in model.graph.node):
        raise ModelError(f"{path} has no tensor {features}", "correct network.features")
    assert features is not None
    stride = 1 if boxes else _find_stride(model, features)
    source = model.graph.input[0].name
    extracted = Extractor(model).extract_model([source], [features])
    rewrite_imported_graph(extracted)
    try:
        OnnxModule(extracted, features)
    except UnknownOperatorError as error:
        use = "with --detector" if boxes else "as a teacher"
        raise ModelError(
            f"{path} has operators that cannot be trained here ({error})", f"use it {use}"
        ) from error
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


def _find_boxes(path: Path, model: onnx.ModelProto) -> str:
    """The name of a detector's output, which has to be (1, N, 5)."""
    (output, *more) = model.graph.output
    shape = [d.dim_value for d in output.type.tensor_type.shape.dim]
    if more or len(shape) != _BOX_ROWS_RANK or shape[2] != 1 + BOX_CHANNELS:
        raise ModelError(
            f"{path} returns {shape}, not one table (1, N, {1 + BOX_CHANNELS}) of boxes and scores",
            "use it with --detector, or name the features of its last level by network.features",
        )
    return str(output.name)


def describe_onnx_network(
    path: Path, features: str | None, *, boxes: bool = False
) -> dict[str, Any]:
    """Read a file into the keys of `[network]` that it sets.

    Raises:
        ModelError: see `read_onnx_network`.
    """
    found = read_onnx_network(path, features, boxes=boxes)
    order = slice(None, None, -1) if found.spec.colour == "RGB" else slice(None)
    return {
        "graph": encode_graph(found.graph), "stride": found.stride,
        "mean": found.spec.mean[order], "std": found.spec.std[order],
    }  # fmt: skip


def encode_graph(graph: onnx.ModelProto) -> str:
    """Compressed text of a graph whose weights were taken out."""
    return base64.b64encode(zlib.compress(graph.SerializeToString(), 9)).decode()


def decode_graph(graph: str) -> onnx.ModelProto:
    """What `encode_graph` made a text of.

    Raises:
        ModelError: the text is no graph.
    """
    try:
        return onnx.load_model_from_string(zlib.decompress(base64.b64decode(graph)))
    except Exception as error:
        raise ModelError(f"network.graph cannot be read ({error})", "set network.file") from error


def read_input_size(graph: str) -> tuple[int, int]:
    """(width, height) of the input that a file was exported with."""
    dims = decode_graph(graph).graph.input[0].type.tensor_type.shape.dim
    return dims[3].dim_value, dims[2].dim_value


def build_trunk(graph: str) -> tuple[OnnxModule, int]:
    """A freshly initialized network of a graph, and the channels of its features.

    Raises:
        ModelError: the text is no graph, or it has operators that cannot be trained here.
    """
    model = decode_graph(graph)
    for tensor in model.graph.initializer:
        taken = not (tensor.raw_data or tensor.float_data)
        if taken and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = bytes(_FLOAT_BYTES * int(np.prod(tensor.dims)))
    trunk = OnnxModule(model, model.graph.output[0].name, trainable=True)
    for parameter in trunk.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[2:])
    try:
        with torch.no_grad():
            channels = trunk(torch.zeros(2, 3, height, width)).shape[1]
    except UnknownOperatorError as error:  # an attribute or a fixed batch, met when it runs
        raise ModelError(
            f"the network has operators that cannot be trained here ({error})",
            "use it as a teacher, or with --detector",
        ) from error
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
    height, coarse = (v.type.tensor_type.shape.dim[2].dim_value for v in (graph.input[0], found))
    if not (height and coarse):
        raise ModelError(
            "network.file has a dynamic input height", "export it with a fixed input size"
        )
    return int(height // coarse)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path))
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path} is no ONNX file ({error})", "check the file") from error


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
