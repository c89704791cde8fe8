"""Ranges learned by quantization-aware training, by tensor name of the exported file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from okdhp_edge.errors import ModelError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.network.fake_quant import QuantizationPoint, QuantizedBranch
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import write_text

Ranges = dict[str, tuple[float, float]]
# Their outputs hold what their inputs hold, and share its steps.
_RANGE_PRESERVING_OPS = ("Clip", "Relu", "MaxPool", "Resize", "Slice", "Pad")
_MAX_RELATIVE_WEIGHT_ERROR = 1e-3
_IMAGE_INPUT_POINT = QuantizationPoint("conv", 0, 0)


def write_learned_ranges(
    trained: Path, recipe: Recipe, net: PoseNet, file: Path, target: Path
) -> None:
    """Write `target`, JSON of the profile that was trained for, and of tensor name to lowest and
    highest value.

    Args:
        trained: a checkpoint of a recipe with `[quantization]`.
        net: its network, loaded.
        file: the branch as ONNX.

    Raises:
        ModelError: the file's operators are not those that were trained.
    """
    table = recipe.quantization
    assert table is not None
    branch = QuantizedBranch(net, table.branch, recipe.input.size, table.placement)
    checkpoint.load_extra_module(trained, checkpoint.QUANTIZED_BRANCH, branch)
    graph = onnx.load(str(file)).graph
    _check_same(graph, [w.numpy() for w in branch.weights()])
    ranges = _propagate_ranges(graph, _map_to_tensor_names(graph, branch.ranges()))
    content = {"profile": table.profile, "ranges": ranges}
    write_text(target, json.dumps(content, indent=1) + "\n")


def _check_same(graph: onnx.GraphProto, weights: Sequence[NDArray[np.float32]]) -> None:
    """The exporter folds and renames; the weights tell that the order is still the same."""
    constants = {i.name: i for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type == "Conv"]
    for number, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
        mine = numpy_helper.to_array(constants[node.input[1]])
        # The first one has taken in the division by the standard deviation.
        if number and (
            mine.shape != weight.shape
            or np.abs(mine - weight).max() > _MAX_RELATIVE_WEIGHT_ERROR * np.abs(weight).max()
        ):
            raise ModelError(
                f"convolution '{node.name}' does not match the trained one",
                "report this as a bug, with the recipe",
            )


def _map_to_tensor_names(
    graph: onnx.GraphProto, learned: dict[QuantizationPoint, tuple[float, float]]
) -> Ranges:
    initializers = {i.name for i in graph.initializer}
    nodes = {
        "conv": [n for n in graph.node if n.op_type == "Conv"],
        "add": [n for n in graph.node if n.op_type == "Add" and not initializers & set(n.input)],
    }
    found = {}
    for site, limits in learned.items():
        if site == _IMAGE_INPUT_POINT:
            # The exported first convolution divides by the standard deviation itself.
            continue
        node = nodes[site.kind][site.number]
        found[node.output[0] if site.argument < 0 else node.input[site.argument]] = limits
    return found


def _propagate_ranges(graph: onnx.GraphProto, ranges: Ranges) -> Ranges:
    for nodes, take, give in ((reversed(graph.node), 0, 1), (graph.node, 1, 0)):
        for node in nodes:
            ends = (node.input[0], node.output[0]) if node.input else ("", "")
            if node.op_type in _RANGE_PRESERVING_OPS and ends[give] in ranges:
                ranges.setdefault(ends[take], ranges[ends[give]])
    return ranges
