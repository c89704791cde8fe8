"""Heatmaps: joints to Gaussians and back, with sub-pixel accuracy.

B batch, K joints, H rows, W columns; coordinates are heatmap pixels, centres at whole numbers.
"""

import math
from enum import StrEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Heatmaps = NDArray[np.float32]

_EPSILON = 1e-6
# Truncating the Gaussian keeps its tail exactly zero, as the published recipes have it.
TRUNCATE_SIGMAS = 3.0
# Distance at which a joint counts exp(-1/2), as a share of the heatmap's side: about twice COCO's
# (its mean over joints of k = 2 sigma is 0.134, and a person covers a quarter of the crop), because
# the exact one ranks people as well but tells present from absent joints less well.
_SIMILARITY_SCALE = 1 / 7


class HeatmapKind(StrEnum):
    """What a network's output values mean."""

    GAUSSIAN = "gaussian"
    """Regressed Gaussians with peak 1 (hard loss `mse`)."""
    LOGITS = "logits"
    """Log-probabilities up to a constant, per joint over all pixels (hard loss `ce`)."""
    PRESENCE = "presence"
    """As `logits`, and their level tells whether the joint is in the crop at all: its probability
    is the logistic function of the logarithm of their mean exponential."""
    CENTERS = "centers"
    """Of a person detector, see `pose.center_map`."""
    BOXES = "boxes"
    """Of a person detector with several levels, see `pose.candidate_boxes`."""

    @property
    def finds_persons(self) -> bool:
        """Whether the values are a detector's, and not joints' heatmaps."""
        return self in (HeatmapKind.CENTERS, HeatmapKind.BOXES)


class Decoded(NamedTuple):
    """Joint positions and confidences."""

    xy_BK2: NDArray[np.float32]
    score_BK: NDArray[np.float32]


def gaussians(
    xy_K2: NDArray[np.floating], size: tuple[int, int], sigma: float
) -> NDArray[np.float32]:
    """(K, H, W) Gaussians of peak 1 at unrounded positions, truncated at 3 sigma.

    Args:
        xy_K2: joint positions in heatmap pixels.
        size: (width, height) of the heatmap.
        sigma: standard deviation in heatmap pixels.
    """
    width, height = size
    column_KW = _bell(np.arange(width) - xy_K2[:, :1], sigma)
    row_KH = _bell(np.arange(height) - xy_K2[:, 1:], sigma)
    return np.asarray(row_KH[:, :, None] * column_KW[:, None, :], dtype=np.float32)


def _bell(distance: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    values = np.exp(-(distance**2) / (2 * sigma**2))
    values[np.abs(distance) > TRUNCATE_SIGMAS * sigma] = 0.0
    return np.asarray(values, dtype=np.float32)


def decode(
    heatmaps_BKHW: Heatmaps, kind: HeatmapKind, sigma: float, smooth: float = 0.0
) -> Decoded:
    """Find each joint's peak and refine it by a parabola through its neighbours.

    The logarithm of a Gaussian is a parabola, so the refinement is exact for a clean heatmap.
    The score is the peak value (gaussian), the expected similarity of the place that was found and
    the true one (logits), or that times the probability that the joint is in the crop (presence);
    all lie in 0..1.

    Args:
        smooth: standard deviation in heatmap pixels of a Gaussian that the values (gaussian) or
            the probabilities (logits) are convolved with before the peak is looked for: the place
            with most mass around it, not the highest pixel (DARK, Zhang et al., CVPR 2020, eq. 8).
            0 is without.
    """
    batch, joints, height, width = heatmaps_BKHW.shape
    flat = np.ascontiguousarray(heatmaps_BKHW, dtype=np.float32).reshape(batch * joints, -1)
    maps = flat.reshape(-1, height, width)
    searched = _smooth(maps, kind, smooth) if smooth else maps
    peak = searched.reshape(len(flat), -1).argmax(axis=1)
    xy = _refine_peaks(searched, peak, kind)
    score = (
        np.clip(flat[np.arange(len(flat)), peak], 0.0, 1.0)
        if kind is HeatmapKind.GAUSSIAN
        else _score_logits(maps, xy, sigma, presence=kind is HeatmapKind.PRESENCE)
    )
    return Decoded(xy.reshape(batch, joints, 2), score.astype(np.float32).reshape(batch, joints))


def _smooth(maps: Heatmaps, kind: HeatmapKind, smooth: float) -> Heatmaps:
    logits = kind is not HeatmapKind.GAUSSIAN
    values = np.exp(maps - maps.max(axis=(1, 2), keepdims=True)) if logits else maps
    height, width = maps.shape[1:]
    result: Heatmaps = (
        _make_convolution(height, smooth) @ values @ _make_convolution(width, smooth).T
    )
    return np.log(np.maximum(result, _EPSILON)) if logits else result


@cache
def _make_convolution(length: int, sigma: float) -> NDArray[np.float32]:
    """(length, length): a row times this is the row convolved with a Gaussian; what lies outside
    is its reflection, so that a peak on the border is not pulled inwards."""
    reach = int(np.ceil(TRUNCATE_SIGMAS * sigma))
    bell = _bell(np.arange(-reach, reach + 1, dtype=np.float64), sigma)
    padded = np.pad(np.eye(length, dtype=np.float32), ((reach, reach), (0, 0)), "symmetric")
    rows = [bell @ padded[i : i + 2 * reach + 1] for i in range(length)]
    return np.asarray(np.stack(rows) / bell.sum(), dtype=np.float32)


def _refine_peaks(
    maps_NHW: Heatmaps, peak_N: NDArray[np.intp], kind: HeatmapKind
) -> NDArray[np.float32]:
    """(N, 2) x and y of the vertex of the parabola through each peak and its two neighbors, within
    half a pixel of the peak; the peak itself on the border.

    Args:
        peak_N: flat index of each peak in its map.
    """
    count, height, width = maps_NHW.shape
    row, column = np.divmod(peak_N, width)
    inside = np.stack([(column > 0) & (column < width - 1), (row > 0) & (row < height - 1)])
    step = inside * np.array([[1], [width]])
    values, at = maps_NHW.reshape(-1), peak_N + np.arange(count) * (height * width)
    before, center, after = values.take(at - step), values.take(at), values.take(at + step)
    if kind is HeatmapKind.GAUSSIAN:
        before, center, after = (np.log(np.maximum(v, _EPSILON)) for v in (before, center, after))
    curvature = 2 * center - before - after
    flat_top = curvature <= _EPSILON
    vertex = 0.5 * (after - before) / np.where(flat_top, 1.0, curvature)
    offset = np.where(flat_top, 0.0, np.clip(vertex, -0.5, 0.5)).astype(np.float32)
    return np.ascontiguousarray((np.stack([column, row]) + offset).T, dtype=np.float32)


def _score_logits(
    maps_NHW: Heatmaps, xy_N2: NDArray[np.float32], sigma: float, *, presence: bool
) -> NDArray[np.float32]:
    """(N,) expected similarities, times the probability of `presence` where that is asked for."""
    highest_N = maps_NHW.max(axis=(1, 2))
    mass_NHW = maps_NHW - highest_N[:, None, None]
    np.exp(mass_NHW, out=mass_NHW)
    total_N = mass_NHW.sum(axis=(1, 2))
    score_N = np.minimum(_sum_similarity(mass_NHW, xy_N2, sigma) / total_N, 1.0)
    if presence:
        score_N = score_N * _estimate_presence(highest_N, total_N / mass_NHW[0].size)
    return np.asarray(score_N, dtype=np.float32)


def _sum_similarity(
    mass_NHW: Heatmaps, xy_N2: NDArray[np.float32], sigma: float
) -> NDArray[np.float32]:
    """(N,) the mass around a place, weighed by exp(-d^2 / (2 s^2)) at distance d.

    With COCO's scale s it is the keypoint similarity (of one joint, COCO's evaluation) that the
    place can expect if the heatmap is right. The mass of a heatmap as sharp as its target counts
    wholly.
    """
    _, height, width = mass_NHW.shape
    # A Python float, which leaves the arrays in single precision.
    scale = _SIMILARITY_SCALE * math.sqrt(height * width)
    row_NH, column_NW = (
        np.exp(-((np.arange(length, dtype=np.float32) - at_N[:, None]) ** 2) / (2 * scale**2))
        for length, at_N in ((height, xy_N2[:, 1]), (width, xy_N2[:, 0]))
    )
    weighed_NH = (mass_NHW @ column_NW[:, :, None])[..., 0]
    return np.asarray((weighed_NH * row_NH).sum(axis=1) * (1 + (sigma / scale) ** 2))


def _estimate_presence(
    highest_N: NDArray[np.float32], mean_N: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N,) probability that the joint is in the crop.

    A softmax over the pixels and one more place, `nowhere`, whose logit is log P for P pixels:
    1 - P(nowhere) = S / (S + P) with S the sum of the exponentials.

    Args:
        highest_N: highest logit.
        mean_N: mean of the exponentials of the logits less the highest.
    """
    return np.asarray(np.exp(-np.logaddexp(0, -(highest_N + np.log(mean_N)))), dtype=np.float32)
