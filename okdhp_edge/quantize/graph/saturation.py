"""Which layers of a Q/DQ file can saturate on a CPU without VNNI; why, `network/weight_scales.py`
says."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from okdhp_edge.network.weight_scales import MAX_PAIR_SUM, MAX_WEIGHT_LEVEL, compute_pair_sums


class Saturation(NamedTuple):
    """What can saturate in a Q/DQ file.

    Attributes:
        layers: convolutions of u8 activations and s8 weights.
        unsafe: those among them with a pair of neighbours that can leave 16 bits.
        coarser: output channels whose largest weight is below 127 steps, for safety's sake.
        channels: output channels of all of them.
    """

    layers: int
    unsafe: tuple[str, ...]
    coarser: int
    channels: int

    def __str__(self) -> str:
        if self.unsafe:
            return f"{len(self.unsafe)} of {self.layers} layers can saturate without VNNI"
        return (
            f"none of {self.layers} layers can saturate; "
            f"{self.coarser} of {self.channels} channels use coarser steps for this"
        )


def analyze_saturation(file: Path) -> Saturation:
    """Look at every quantized convolution of a Q/DQ ONNX file."""
    graph = onnx.load(str(file)).graph
    constants = {i.name: i for i in graph.initializer}
    makers = {o: n for n in graph.node for o in n.output}
    unsafe, layers, coarser, channels = [], 0, 0, 0
    for node in graph.node:
        weight = _get_int8_weight(node, makers, constants)
        if weight is None or not _has_unsigned_input(node, makers, constants):
            continue
        layers += 1
        channels += len(weight)
        largest = np.abs(weight.astype(int)).reshape(len(weight), -1).max(axis=1)
        coarser += int((largest < MAX_WEIGHT_LEVEL).sum())
        if (compute_pair_sums(weight) > MAX_PAIR_SUM).any():
            unsafe.append(str(node.name))
    return Saturation(layers, tuple(unsafe), coarser, channels)


def _get_int8_weight(
    node: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
) -> NDArray[np.int8] | None:
    if node.op_type != "Conv":
        return None
    maker = makers.get(node.input[1])
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in constants:
        return None
    weight = numpy_helper.to_array(constants[maker.input[0]])
    return weight if weight.dtype == np.int8 else None


def _has_unsigned_input(
    node: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
) -> bool:
    maker = makers.get(node.input[0])
    if maker is None or maker.op_type != "DequantizeLinear" or len(maker.input) < 3:
        return False
    zero = constants.get(maker.input[2])
    return zero is not None and zero.data_type == onnx.TensorProto.UINT8
