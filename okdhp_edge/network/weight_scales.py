"""Scales of INT8 weights, with coarser steps where 8 bits could saturate.

x86 without VNNI multiplies u8 activations by s8 weights with `vpmaddubsw`, which adds the products
of two neighbours in 16 bits and saturates. The pair (w0, w1) is safe for every pair of activations
in 0..255 if its positive weights add up to at most 128 and its negative ones to at least -128:
255 * 128 = 32640 fits, 255 * 129 = 32895 does not.

Which weights are neighbours is the kernel's choice. oneDNN (OpenVINO) pairs the input channels 2k
and 2k + 1 of one kernel position; MLAS (ONNX Runtime) pairs consecutive values of a filter that is
unrolled rows first and channels last, which is the same where the channels are even. Both are
looked at. Depthwise filters have no neighbours: their kernels multiply in 32 bits.

Training with quantization and the files that are exported take their scales from here.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAX_WEIGHT_LEVEL = 127
MAX_PAIR_SUM = 128
_MIN_SCALE_GROWTH = 1.001


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


# A channel of smaller weights counts as zero: its scale would be no normal number.
_MIN_WEIGHT = 1e-30


def compute_weight_scales(
    weight_OIHW: NDArray[np.floating], *, per_channel: bool, saturation_free: bool
) -> NDArray[np.float32]:
    """(O,) the smallest symmetric scales at which weights lie within +-127 steps.

    Args:
        per_channel: whether channels may differ; else all get the largest.
        saturation_free: whether, beyond that, no pair of neighbours may saturate. A channel of
            which 8 bits cannot be shown safe then has coarser steps, at most twice as coarse.
    """
    largest = np.abs(weight_OIHW).reshape(len(weight_OIHW), -1).max(axis=1)
    scale = np.where(
        largest > _MIN_WEIGHT, largest / MAX_WEIGHT_LEVEL, 1 / MAX_WEIGHT_LEVEL
    ).astype(np.float32)
    if not per_channel:
        scale = np.full_like(scale, scale.max())
    while saturation_free:
        sums = compute_pair_sums(quantize_weight(weight_OIHW, scale))
        over = sums > MAX_PAIR_SUM
        if not over.any():
            break
        growth = np.where(over, np.maximum(sums / MAX_PAIR_SUM, _MIN_SCALE_GROWTH), 1.0)
        scale = (scale * growth).astype(np.float32)
        if not per_channel:
            scale = np.full_like(scale, scale.max())
    return scale


def quantize_weight(
    weight_OIHW: NDArray[np.floating], scale_O: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Weights in steps of their channel's scale."""
    steps = np.round(weight_OIHW / scale_O[:, None, None, None])
    return np.clip(steps, -MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL).astype(np.int8)
