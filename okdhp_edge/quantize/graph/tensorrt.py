"""TensorRT INT8: check the Q/DQ rules with node names, and verify with a build.

TensorRT 11 has no calibrator and no INT8 flag; explicit Q/DQ in the ONNX is the only way.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from okdhp_edge.artifacts.card import compute_sha256, read_card
from okdhp_edge.backends.engine import (
    ENGINE_CACHE_FOLDER,
    SIDECAR_SUFFIX,
    Sidecar,
    build,
    describe_library,
    parse_onnx,
    write_engine,
)
from okdhp_edge.backends.tensorrt import import_vendor_module
from okdhp_edge.errors import ModelError
from okdhp_edge.system.files import add_to_manifest
from okdhp_edge.system.progress import Report, ignore_progress

DEFAULT_TARGETS = ("SM75", "SM86", "SM89", "SM120")


def check_qdq_rules(path: Path) -> None:
    """Check the rules of explicit quantization before TensorRT does, with the node's name.

    Raises:
        ModelError: the rule broken and the node that breaks it.
    """
    graph = onnx.load(str(path)).graph
    constants = {i.name: i for i in graph.initializer}
    quantizers = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if not quantizers:
        _refuse(path.name, "has no Q/DQ node", "quantize it first")
    for node in quantizers:
        _check_node(node, constants)
    first = next((n for n in graph.node if graph.input[0].name in n.input), None)
    uint8 = graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    if uint8 and (first is None or first.op_type != "Cast"):
        _refuse(first.name if first else "input", "reads uint8 but is not a Cast", "Cast first")


def _check_node(node: onnx.NodeProto, constants: dict[str, TensorProto]) -> None:
    if node.input[1] not in constants:
        _refuse(node.name, "has a non-constant scale", "quantize statically")
    if len(node.input) > 2 and node.input[2] in constants:
        zero_point = numpy_helper.to_array(constants[node.input[2]])
        if zero_point.dtype != np.int8:
            _refuse(node.name, f"quantizes to {zero_point.dtype}", "use the tensorrt profile")
        if np.any(zero_point != 0):
            _refuse(node.name, "has a nonzero zero-point", "use the tensorrt profile")
    elif len(node.input) < 3:
        _refuse(node.name, "has no zero-point, which means uint8", "use the tensorrt profile")


def _refuse(node: str, what: str, remedy: str) -> None:
    raise ModelError(f"TensorRT would refuse node '{node}': it {what}", remedy)


def find_float_convolutions(path: Path) -> list[str]:
    """Convolutions of TensorRT's own network, as it parses the file, that are not in INT8.

    In INT8 both input and weight come from a dequantization of int8.

    Raises:
        BackendError: TensorRT-RTX is absent or refuses the file.
    """
    trt = import_vendor_module("tensorrt_rtx")
    read = parse_onnx(trt, path.read_bytes(), path.name)
    network = read.network
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    int8 = {
        layer.get_output(0).name
        for layer in layers
        if layer.type == trt.LayerType.DEQUANTIZE and layer.get_input(0).dtype == trt.int8
    }
    return [
        layer.name
        for layer in layers
        if layer.type == trt.LayerType.CONVOLUTION
        and not {_get_tensor_name(layer.get_input(0)), _get_tensor_name(layer.get_input(1))} <= int8
    ]


def _get_tensor_name(tensor: Any) -> str:
    """A weight that the layer holds itself is no tensor."""
    return "" if tensor is None else str(tensor.name)


def write_engines(folder: Path, targets: Sequence[str], report: Report = ignore_progress) -> Path:
    """One engine for several GPU generations, without a GPU; returns its path.

    It lies in `folder`, the tensorrt artifact's, once under each generation's name.

    Raises:
        BackendError: TensorRT-RTX is absent or refuses the file or a target.
    """
    trt = import_vendor_module("tensorrt_rtx")
    card = read_card(folder)
    file = folder / card.model_file
    plan = build(trt, file.read_bytes(), file.name, targets, report)
    facts = Sidecar(
        engine_sha256=hashlib.sha256(plan).hexdigest(), onnx_sha256=compute_sha256(file),
        library=describe_library(trt), targets=tuple(targets),
    )  # fmt: skip
    paths = [folder / ENGINE_CACHE_FOLDER / f"{target}.engine" for target in targets]
    files = [file for path in paths for file in (path, path.with_suffix(SIDECAR_SUFFIX))]
    # First: of what is cut short, nothing is taken for a file of the user's.
    add_to_manifest(folder.parent, files)
    for path in paths:
        write_engine(plan, path, facts)
    return paths[0]
