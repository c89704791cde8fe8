"""Bias correction: compensate the mean output shift caused by rounding the weights.

E[y - y_q] = (W - W_q) * E[x] for a convolution (Nagel et al., ICCV 2019, section 4.2). E[x] of
every input channel is known from the float network, so no order of layers matters. Borders, where
padding hides a part of the kernel, are treated like the middle.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.network.weight_scales import compute_weight_scales, quantize_weight
from okdhp_edge.quantize.ranges.observe import StatisticsByTensor


def apply_bias_correction(
    source: Path,
    target: Path,
    statistics: StatisticsByTensor,
    profile: Int8Profile,
    keep_float: Collection[str] = (),
) -> None:
    """Write a float file whose biases make up for the weights' rounding under `profile`."""
    model = onnx.load(str(source))
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    names = {o for n in graph.node if n.op_type == "Conv" for o in n.input[1:3]}
    values = {n: numpy_helper.to_array(constants[n]) for n in names if n in constants}
    for node in graph.node:
        if node.op_type != "Conv" or node.name in keep_float or node.input[1] not in values:
            continue
        weight = values[node.input[1]]
        shift = compute_mean_shift(weight, statistics[node.input[0]].channel_mean, profile)
        bias = values[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        corrected = f"{node.name}_corrected_bias"
        graph.initializer.append(
            numpy_helper.from_array((bias + shift).astype(np.float32), corrected)
        )
        del node.input[2:]
        node.input.append(corrected)
    onnx.save(model, str(target))


def compute_mean_shift(
    weight_OIHW: NDArray[np.float32], mean_C: NDArray[np.float64], profile: Int8Profile
) -> NDArray[np.float64]:
    """(O,) by how much float outputs lie above quantized ones on average.

    Args:
        weight_OIHW: I channels a group.
        mean_C: of the input's channels.
    """
    lost = (weight_OIHW - quantize_dequantize(weight_OIHW, profile)).sum(
        axis=(2, 3), dtype=np.float64
    )
    outputs, inputs = lost.shape
    groups = len(mean_C) // inputs
    by_group = lost.reshape(groups, outputs // groups, inputs)
    shift: NDArray[np.float64] = np.einsum("goi,gi->go", by_group, mean_C.reshape(groups, inputs))
    return shift.reshape(outputs)


def quantize_dequantize(
    weight_OIHW: NDArray[np.float32], profile: Int8Profile
) -> NDArray[np.float32]:
    """Weights as they are after symmetric quantization."""
    scale_O = compute_weight_scales(
        weight_OIHW, per_channel=profile.per_channel, saturation_free=profile.saturation_free
    )
    return np.asarray(
        quantize_weight(weight_OIHW, scale_O) * scale_O[:, None, None, None], np.float32
    )
