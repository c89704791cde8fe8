"""Q/DQ nodes into a float ONNX file: our ranges, onnxruntime's graph surgery."""

import logging
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.errors import ModelError
from okdhp_edge.network.weight_scales import compute_weight_scales
from okdhp_edge.quantize.graph import graph_rewrites
from okdhp_edge.quantize.ranges.calibrators import Ranges


def write_qdq(
    source: Path,
    target: Path,
    ranges: Ranges,
    profile: Int8Profile,
    *,
    keep_float: Collection[str] = (),
    only: Collection[str] = (),
) -> None:
    """Quantize a float file statically.

    Args:
        ranges: of every tensor that may be quantized, by name in `source`.
        keep_float: names of nodes that stay as they are; heads and what follows them are
            always among them.
        only: names of the only nodes that are quantized; empty: all that the profile wants.
    """
    # Its advice to pre-process does not apply: the export has folded and simplified already.
    logging.getLogger().addFilter(_keep_log_record)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if profile.rewrite:
                graph_rewrites.convert_batch_norms_to_convolutions(
                    source, Path(folder) / "float.onnx"
                )
                source = Path(folder) / "float.onnx"
            left = {*find_tail(source), *keep_float}
            cache = Path(folder) / "ranges.json"
            save_tensors_data(_to_tensors_data(ranges), cache)
            quantize_static(
                str(source), str(target), None, quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(profile.ops), per_channel=profile.per_channel,
                activation_type=QuantType.QInt8 if profile.signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=sorted(left), nodes_to_quantize=list(only),
                extra_options=profile.options | _make_scale_overrides(source, profile, left),
                calibration_cache_path=cache,
            )  # fmt: skip
        if profile.rewrite:
            graph_rewrites.absorb_normalization(target)
            graph_rewrites.upsample_by_concat(target)
    finally:
        logging.getLogger().removeFilter(_keep_log_record)


def _make_scale_overrides(
    source: Path, profile: Int8Profile, left: Collection[str]
) -> dict[str, Any]:
    """onnxruntime's option that gives every quantized filter its scales."""
    if not (profile.saturation_free and profile.per_channel):
        return {}
    graph = onnx.load(str(source)).graph
    constants = {i.name: i for i in graph.initializer}
    filters = {
        n.input[1] for n in graph.node
        if n.op_type == "Conv" and n.name not in left and n.input[1] in constants
    }  # fmt: skip
    return {"TensorQuantOverrides": {
        name: [
            {"axis": 0, "scale": scale, "zero_point": 0}
            for scale in compute_weight_scales(
                numpy_helper.to_array(constants[name]), per_channel=True, saturation_free=True
            )
        ]
        for name in sorted(filters)
    }}  # fmt: skip


def _to_tensors_data(ranges: Ranges) -> TensorsData:
    limits = {
        name: (np.array(low, dtype=np.float32), np.array(high, dtype=np.float32))
        for name, (low, high) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, limits)


def find_convolutions(source: Path) -> list[str]:
    """Names of the convolutions that can be quantized, in order: all but the heads."""
    graph = _load_graph(source)
    tail = set(_list_tail(graph))
    return [str(n.name) for n in graph.node if n.op_type == "Conv" and n.name not in tail]


def find_with_activation(source: Path, convolution: str) -> list[str]:
    """A convolution, and the activation that alone reads it: quantized together they have the steps
    of what the activation gives, as in a file that is quantized throughout."""
    graph = _load_graph(source)
    (node,) = (n for n in graph.node if n.name == convolution)
    readers = [n for n in graph.node if node.output[0] in n.input]
    fused = [n.name for n in readers if n.op_type in ("Relu", "Clip") and len(readers) == 1]
    return [convolution, *fused]


def find_heads(source: Path) -> list[str]:
    """The convolutions after which there is no other: one gives the heatmaps of a pose model, a
    detector with several levels has some for each. Coarse steps in them would move the peaks."""
    graph = _load_graph(source)
    tail = set(_list_tail(graph))
    return [str(n.name) for n in graph.node if n.op_type == "Conv" and n.name in tail]


def find_tail(source: Path) -> list[str]:
    """Nodes after which there is no convolution but themselves: heads, and what reads them."""
    return _list_tail(_load_graph(source))


def _list_tail(graph: onnx.GraphProto) -> list[str]:
    tail: list[str] = []
    read_by_convolutions: set[str] = set()
    for node in reversed(graph.node):
        followed = not read_by_convolutions.isdisjoint(node.output)
        if not followed:
            tail.append(str(node.name))
        if followed or node.op_type == "Conv":
            read_by_convolutions.update(node.input)
    return tail[::-1]


def _load_graph(source: Path) -> onnx.GraphProto:
    return onnx.load(str(source), load_external_data=False).graph


def find_matching_nodes(source: Path, pattern: str) -> list[str]:
    """Names of the nodes that a regular expression is found in.

    Raises:
        ModelError: none matches.
    """
    graph = onnx.load(str(source), load_external_data=False).graph
    found = [str(n.name) for n in graph.node if re.search(pattern, n.name)]
    if not found:
        raise ModelError(
            f"no node matches '{pattern}'",
            "a viewer of ONNX files, such as Netron, shows the names",
        )
    return found


def _keep_log_record(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
