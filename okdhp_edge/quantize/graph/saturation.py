"""Weights that cannot saturate on a CPU without VNNI, whatever the activations are.

x86 without VNNI multiplies u8 activations by s8 weights with `vpmaddubsw`, which adds the products
of two neighbours in 16 bits and saturates. The pair (w0, w1) is safe for every pair of activations
in 0..255 if its positive weights add up to at most 128 and its negative ones to at least -128:
255 * 128 = 32640 fits, 255 * 129 = 32895 does not.

Which weights are neighbours is the kernel's choice. oneDNN (OpenVINO) pairs the input channels 2k
and 2k + 1 of one kernel position; MLAS (ONNX Runtime) pairs consecutive values of a filter that is
unrolled rows first and channels last, which is the same where the channels are even. Both are
looked at. Depthwise filters have no neighbours: their kernels multiply in 32 bits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MAX_WEIGHT_LEVEL = 127
MAX_PAIR_SUM = 128


def compute_pair_sums(weight_OIHW: NDArray[np.integer]) -> NDArray[np.int64]:
    """(O,) the largest sum of one sign's weights in any pair of neighbours, by output channel."""
    worst = np.zeros(len(weight_OIHW), dtype=np.int64)
    if weight_OIHW.shape[1] == 1:
        return worst
    for first, second in _iterate_pairs(weight_OIHW.astype(np.int64)):
        positive = np.maximum(first, 0) + np.maximum(second, 0)
        negative = np.maximum(-first, 0) + np.maximum(-second, 0)
        sums = np.maximum(positive, negative).reshape(len(worst), -1).max(axis=1)
        worst = np.maximum(worst, sums)
    return worst


def _iterate_pairs(
    weight_OIHW: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    odd = weight_OIHW.shape[1] % 2
    channels = np.pad(weight_OIHW, ((0, 0), (0, odd), (0, 0), (0, 0)))
    yield channels[:, ::2], channels[:, 1::2]
    if odd:
        unrolled = weight_OIHW.transpose(0, 2, 3, 1).reshape(len(weight_OIHW), -1)
        unrolled = np.pad(unrolled, ((0, 0), (0, unrolled.shape[1] % 2)))
        yield unrolled[:, ::2], unrolled[:, 1::2]


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
