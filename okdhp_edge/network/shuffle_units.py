"""Units of ShuffleNet V2 as plain convolutions.

Moving channels takes runtimes longer than the multiplications that replace it.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from okdhp_edge.network.graph_view import (
    CHANNEL_SHUFFLE,
    GraphView,
    get_attributes,
    replace_nodes,
)

_Array = NDArray[Any]
_LEFT_KINDS, _RIGHT_KINDS = ["Conv", "Conv", "Relu"], ["Conv", "Relu", "Conv", "Conv", "Relu"]


class _ShuffleUnit(NamedTuple):
    """A unit of ShuffleNet V2 (Ma et al., ECCV 2018, figure 3), between a split of the channels and
    their shuffle.

    Attributes:
        source: what is split in halves.
        result: what is shuffled.
        left: convolutions of the first half: none, or a depthwise and a 1x1.
        right: of the second half: a 1x1, a depthwise and a 1x1.
        nodes: outputs of all nodes that the unit's convolutions replace.
    """

    source: str
    result: str
    left: list[onnx.NodeProto]
    right: list[onnx.NodeProto]
    nodes: set[str]


def fold_shuffle_units(graph: onnx.GraphProto) -> None:
    """Each unit becomes a 1x1, a depthwise and a 1x1 convolution over all channels.

    The half that the unit hands on passes through identities: its values come from a ReLU, so the
    ones after the new convolutions change nothing. The order of the shuffle is that of the last
    convolution's filters. Up to four times the multiplications, without moving a channel:
    PP-TinyPose takes three quarters of its time in OpenVINO, in float.
    """
    while (found := _find_shuffle_unit(view := GraphView(graph))) is not None:
        folded = _fold(found, view)
        graph.initializer.extend(folded.initializers)
        nodes = [node for node in graph.node if node.output[0] not in found.nodes]
        at = next(i for i, node in enumerate(graph.node) if found.result in node.output)
        at -= sum(node.output[0] in found.nodes for node in list(graph.node)[:at])
        replace_nodes(graph, [*nodes[:at], *folded.nodes, *nodes[at:]])


def _find_shuffle_unit(graph: GraphView) -> _ShuffleUnit | None:
    for node in graph.nodes:
        if node.op_type == CHANNEL_SHUFFLE and get_attributes(node)["groups"] == 2:
            unit = _read_shuffle_unit(graph, node)
            if unit is not None:
                return unit
    return None


def _read_shuffle_unit(graph: GraphView, shuffle: onnx.NodeProto) -> _ShuffleUnit | None:
    concat = graph.find_maker(shuffle.input[0], "Concat")
    if concat is None or len(concat.input) != 2:
        return None
    (left, left_half), (right, right_half) = (_follow_chain(graph, name) for name in concat.input)
    split = graph.find_maker(left_half, "Split")
    if split is None or list(split.output) != [left_half, right_half]:
        return None
    inner = (left_half, right_half, concat.output[0])
    if not all(map(graph.has_one_reader, inner)) or not graph.is_never_negative(split.input[0]):
        return None
    kinds = [n.op_type for n in left], [n.op_type for n in right]
    if kinds[0] not in ([], _LEFT_KINDS) or kinds[1] != _RIGHT_KINDS:
        return None
    unit = _ShuffleUnit(
        split.input[0], shuffle.output[0], _convolutions(left), _convolutions(right),
        {n.output[0] for n in (split, concat, shuffle, *left, *right)},
    )  # fmt: skip
    return unit if _halves(graph, split) and _has_known_shapes(graph, unit) else None


def _halves(graph: GraphView, split: onnx.NodeProto) -> bool:
    """Whether the parts of a split are equal."""
    sizes = graph.constants.get(split.input[1]) if len(split.input) > 1 else None
    return sizes is None or len(set(sizes.tolist())) == 1


def _follow_chain(graph: GraphView, name: str) -> tuple[list[onnx.NodeProto], str]:
    """Convolutions and ReLUs that lead to a tensor, read by nothing else, and what they read."""
    chain: list[onnx.NodeProto] = []
    while graph.has_one_reader(name):
        node = graph.makers.get(name)
        if node is None or node.op_type not in ("Conv", "Relu"):
            break
        chain.insert(0, node)
        name = node.input[0]
    return chain, name


def _convolutions(chain: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    return [node for node in chain if node.op_type == "Conv"]


def _has_known_shapes(graph: GraphView, unit: _ShuffleUnit) -> bool:
    """Whether the depthwise convolutions fit together and all weights are constants."""
    every = [*unit.left, *unit.right]
    if any(len(n.input) != 3 or not {*n.input[1:]} <= graph.constants.keys() for n in every):
        return False
    depthwise = [unit.right[1], *unit.left[:1]]
    pointwise = [unit.right[0], unit.right[2], *unit.left[1:]]
    plain = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
    if any(_get_settings(graph, n) != plain for n in pointwise):
        return False
    if any(get_attributes(n).get("group", 1) != 1 for n in pointwise):
        return False
    if any(get_attributes(n).get("group") != len(graph.constants[n.input[1]]) for n in depthwise):
        return False
    settings = [_get_settings(graph, n) for n in depthwise]
    kernel = settings[0]["kernel_shape"]
    keeps_size = {"kernel_shape": kernel, "strides": [1, 1], "dilations": [1, 1],
                  "pads": [side // 2 for side in kernel * 2]}  # fmt: skip
    unchanged = bool(unit.left) or settings[0] == keeps_size
    return unchanged and all(s == settings[0] for s in settings)


def _get_settings(graph: GraphView, node: onnx.NodeProto) -> dict[str, list[int]]:
    """Of a convolution, without its groups."""
    given = get_attributes(node)
    return {
        "kernel_shape": list(graph.constants[node.input[1]].shape[2:]),
        "strides": list(given.get("strides", [1, 1])),
        "pads": list(given.get("pads", [0, 0, 0, 0])),
        "dilations": list(given.get("dilations", [1, 1])),
    }


class _Folded(NamedTuple):
    nodes: list[onnx.NodeProto]
    initializers: list[onnx.TensorProto]


def _fold(unit: _ShuffleUnit, graph: GraphView) -> _Folded:
    enter, inner, leave = ((graph.constants[n.input[1]], graph.constants[n.input[2]])
                           for n in unit.right)  # fmt: skip
    half = enter[0].shape[1]
    if unit.left:
        left_inner, left_leave = ((graph.constants[n.input[1]], graph.constants[n.input[2]])
                                  for n in unit.left)  # fmt: skip
    else:
        left_inner = _make_depthwise_identity(half, inner[0].shape[2:]), np.zeros(half)
        left_leave = _make_pointwise_identity(half), np.zeros(half)
    passed = _make_pointwise_identity(half), np.zeros(half)
    first = _combine_blocks(passed, enter)
    middle = np.concatenate([left_inner[0], inner[0]]), np.concatenate([left_inner[1], inner[1]])
    last = _combine_blocks(left_leave, leave)
    # Channel i of either half lands at 2i and 2i + 1.
    order = np.arange(len(last[0])).reshape(2, -1).T.reshape(-1)
    last = last[0][order], last[1][order]
    settings = _get_settings(graph, unit.right[1])
    name = unit.result
    folded = _Folded([], [])
    _append(folded, "Conv", unit.source, f"{name}_first", first, kernel_shape=[1, 1])
    _append(folded, "Relu", f"{name}_first", f"{name}_first_relu")
    _append(folded, "Conv", f"{name}_first_relu", f"{name}_depthwise", middle,
            group=len(middle[0]), **settings)  # fmt: skip
    _append(folded, "Conv", f"{name}_depthwise", f"{name}_last", last, kernel_shape=[1, 1])
    _append(folded, "Relu", f"{name}_last", name)
    return folded


def _append(
    folded: _Folded, op: str, source: str, target: str,
    weights: tuple[_Array, _Array] | None = None, **attributes: Any,
) -> None:  # fmt: skip
    names = [f"{target}_weight", f"{target}_bias"] if weights else []
    for name, values in zip(names, weights or (), strict=True):
        folded.initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
    folded.nodes.append(helper.make_node(op, [source, *names], [target], **attributes))


def _make_pointwise_identity(channels: int) -> _Array:
    return np.eye(channels)[:, :, None, None]


def _make_depthwise_identity(channels: int, kernel: tuple[int, ...]) -> _Array:
    weight = np.zeros((channels, 1, *kernel))
    weight[:, 0, kernel[0] // 2, kernel[1] // 2] = 1
    return weight


def _combine_blocks(
    upper: tuple[_Array, _Array], lower: tuple[_Array, _Array]
) -> tuple[_Array, _Array]:
    """Two 1x1 convolutions side by side: weights on the diagonal, zeros elsewhere."""
    (a, a_bias), (b, b_bias) = upper, lower
    weight = np.zeros((len(a) + len(b), a.shape[1] + b.shape[1], 1, 1))
    weight[: len(a), : a.shape[1]] = a
    weight[len(a) :, a.shape[1] :] = b
    return weight, np.concatenate([a_bias, b_bias])
