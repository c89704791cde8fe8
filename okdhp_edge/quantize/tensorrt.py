"""What TensorRT accepts as INT8: a check that names the node, and a build that proves it.

TensorRT 11 has no calibrator and no INT8 flag; explicit Q/DQ in the ONNX is the only way.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from okdhp_edge.backends.tensorrt import collecting_logger, imported
from okdhp_edge.errors import BackendError, ModelError

TARGETS = ("SM75", "SM86", "SM89", "SM120")


def check_contract(path: Path) -> None:
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
        _refuse(first.name if first else "input", "reads uint8 but is no Cast", "Cast first")


def _check_node(node: onnx.NodeProto, constants: dict[str, TensorProto]) -> None:
    if node.input[1] not in constants:
        _refuse(node.name, "has a scale that is not constant", "quantize statically")
    if len(node.input) > 2 and node.input[2] in constants:
        zero_point = numpy_helper.to_array(constants[node.input[2]])
        if zero_point.dtype != np.int8:
            _refuse(node.name, f"quantizes to {zero_point.dtype}", "use the tensorrt profile")
        if np.any(zero_point != 0):
            _refuse(node.name, "has a zero-point other than 0", "use the tensorrt profile")
    elif len(node.input) < 3:
        _refuse(node.name, "has no zero-point, which means uint8", "use the tensorrt profile")


def _refuse(node: str, what: str, remedy: str) -> None:
    raise ModelError(f"TensorRT would refuse node '{node}': it {what}", remedy)


def build_engine(path: Path, targets: Sequence[str] = TARGETS) -> bytes:
    """Build an engine for the given GPU generations with TensorRT-RTX; needs no GPU.

    Args:
        path: a Q/DQ or float ONNX file.
        targets: names as SM89.

    Raises:
        BackendError: the package is absent or TensorRT refuses the file; its log is quoted.
    """
    trt = imported("tensorrt_rtx")
    log: list[str] = []
    logger = collecting_logger(trt, log)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        reason = str(parser.get_error(0)) if parser.num_errors else "\n".join(log[-1:])
        raise BackendError(f"TensorRT cannot parse {path.name} ({reason[:300]})", "report it")
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(targets)
    for number, name in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), number)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"TensorRT cannot build {path.name} ({' '.join(log[-2:])[:300]})",
                           "see the node it names")  # fmt: skip
    return bytes(plan)
