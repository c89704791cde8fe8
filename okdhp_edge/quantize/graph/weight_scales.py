"""Weight scales, with coarser steps where 8 bits could saturate (see `saturation.py`)."""

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.quantize.graph.saturation import MAX_PAIR_SUM, MAX_WEIGHT_LEVEL, compute_pair_sums

_MIN_SCALE_GROWTH = 1.001


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
    scale = np.where(largest > 0, largest / MAX_WEIGHT_LEVEL, 1 / MAX_WEIGHT_LEVEL).astype(
        np.float32
    )
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
