"""Scales of weights: where 8 bits could saturate (`saturation.py`), steps are coarser."""

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.quantize.saturation import LIMIT, STEPS, pair_sums

_GROWTH = 1.001


def weight_scales(
    weight_OIHW: NDArray[np.floating], *, per_channel: bool, saturation_free: bool
) -> NDArray[np.float32]:
    """(O,) the smallest symmetric scales at which weights lie within +-127 steps.

    Args:
        per_channel: whether channels may differ; else all get the largest.
        saturation_free: whether, beyond that, no pair of neighbours may saturate. A channel of
            which 8 bits cannot be shown safe then has coarser steps, at most twice as coarse.
    """
    largest = np.abs(weight_OIHW).reshape(len(weight_OIHW), -1).max(axis=1)
    scale = np.where(largest > 0, largest / STEPS, 1 / STEPS).astype(np.float32)
    if not per_channel:
        scale = np.full_like(scale, scale.max())
    while saturation_free:
        sums = pair_sums(quantized(weight_OIHW, scale))
        over = sums > LIMIT
        if not over.any():
            break
        growth = np.where(over, np.maximum(sums / LIMIT, _GROWTH), 1.0)
        scale = (scale * growth).astype(np.float32)
        if not per_channel:
            scale = np.full_like(scale, scale.max())
    return scale


def quantized(weight_OIHW: NDArray[np.floating], scale_O: NDArray[np.float32]) -> NDArray[np.int8]:
    """Weights in steps of their channel's scale."""
    steps = np.round(weight_OIHW / scale_O[:, None, None, None])
    return np.clip(steps, -STEPS, STEPS).astype(np.int8)
