"""Heatmaps: joints to Gaussians and back, with sub-pixel accuracy.

B batch, K joints, H rows, W columns; coordinates are heatmap pixels, centres at whole numbers.
"""

import math
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Heatmaps = NDArray[np.float32]

_EPSILON = 1e-6
# The exponential of a smaller number is lost in a sum of single precision, and a product of three
# such exponentials is still a normal number. Each subnormal one would cost an Intel core some 150
# cycles: decoding took six times as long there.
_MIN_EXPONENT = -27.0
_CACHED_MATRICES = 64
# Truncating the Gaussian keeps its tail exactly zero, as the published recipes have it.
TRUNCATE_SIGMAS = 3.0
# Distance at which a joint of average OKS sigma counts exp(-1/2), as a share of the heatmap's side.
# The first is COCO's: its mean over joints of k = 2 sigma is 0.134, and a person covers a quarter
# of the crop. The second, of scores, is twice that: COCO's tells present from absent joints less
# well.
_PLACE_SCALE, _SCORE_SCALE = 1 / 14, 1 / 7


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
    heatmaps_BKHW: Heatmaps,
    kind: HeatmapKind,
    sigma: float,
    smooth: float = 0.0,
    oks_sigmas_K: NDArray[np.float64] | None = None,
) -> Decoded:
    """Find each joint, and refine its place by a parabola through the neighboring values.

    Of `gaussian` heatmaps it is the peak, and the score its value. Logits say how probable each
    pixel is: the joint lies where its expected similarity to the true place is highest (keypoint
    similarity, COCO's evaluation), which is also its score, on a wider scale; with `presence`
    times the probability that the joint is in the crop. All scores lie in 0..1. The logarithm of a
    Gaussian is a parabola, so the refinement is exact for a clean heatmap.

    Args:
        smooth: standard deviation in heatmap pixels of a Gaussian that the values (gaussian) or
            the probabilities (logits) are convolved with before the peak is looked for: the place
            with most mass around it, not the highest pixel (DARK, Zhang et al., CVPR 2020, eq. 8).
            0 is without.
        oks_sigmas_K: how far people who label each joint disagree, `Skeleton.sigmas`: the larger,
            the wider the similarity. None: all alike.
    """
    batch, joints, height, width = heatmaps_BKHW.shape
    maps = np.ascontiguousarray(heatmaps_BKHW, dtype=np.float32).reshape(-1, height, width)
    if kind is HeatmapKind.GAUSSIAN:
        xy, score = _decode_gaussians(maps, smooth)
    else:
        wide_K = np.ones(joints) if oks_sigmas_K is None else oks_sigmas_K / oks_sigmas_K.mean()
        presence = kind is HeatmapKind.PRESENCE
        xy, score = _decode_logits(maps, sigma, smooth, wide_K, presence=presence)
    return Decoded(xy.reshape(batch, joints, 2), score.astype(np.float32).reshape(batch, joints))


def _decode_gaussians(
    maps_NHW: Heatmaps, smooth: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    searched = _convolve(maps_NHW, smooth) if smooth else maps_NHW
    peak = searched.reshape(len(maps_NHW), -1).argmax(axis=1)
    flat = maps_NHW.reshape(len(maps_NHW), -1)
    score = np.clip(flat[np.arange(len(flat)), peak], 0.0, 1.0)
    return _refine_peaks(searched, peak), score


def _decode_logits(
    maps_NHW: Heatmaps,
    sigma: float,
    smooth: float,
    wide_K: NDArray[np.float64],
    *,
    presence: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places (N, 2) and scores (N,) of N = B * K maps.

    Args:
        wide_K: each joint's OKS sigma relative to the mean.
    """
    _, height, width = maps_NHW.shape
    highest_N = maps_NHW.max(axis=(1, 2))
    mass_NHW = _exp(maps_NHW - highest_N[:, None, None])
    # A Python float, which leaves the arrays in single precision.
    side = math.sqrt(height * width)
    if smooth:
        searched = _convolve(mass_NHW, smooth)
    else:
        scales = tuple((_PLACE_SCALE * side * wide_K).tolist())
        mass_BKHW = mass_NHW.reshape(-1, len(wide_K), height, width)
        rows_KHH, columns_KWW = _make_similarity(height, scales), _make_similarity(width, scales)
        searched = (rows_KHH @ mass_BKHW @ columns_KWW).reshape(mass_NHW.shape)
    xy_N2 = _refine_peaks(searched, searched.reshape(len(mass_NHW), -1).argmax(axis=1))
    total_N = mass_NHW.sum(axis=(1, 2))
    scale_K = (_SCORE_SCALE * side * wide_K).astype(np.float32)
    scale_N = np.tile(scale_K, len(maps_NHW) // len(wide_K))
    score_N = np.minimum(_sum_similarity(mass_NHW, xy_N2, sigma, scale_N) / total_N, 1.0)
    if presence:
        score_N = score_N * _estimate_presence(highest_N, total_N / mass_NHW[0].size)
    return xy_N2, np.asarray(score_N, dtype=np.float32)


def _exp(exponents: NDArray[Any]) -> NDArray[Any]:
    """Their exponentials, without subnormal numbers; in the exponents' own memory."""
    np.maximum(exponents, _MIN_EXPONENT, out=exponents)
    np.exp(exponents, out=exponents)
    return exponents


def _convolve(maps_NHW: Heatmaps, smooth: float) -> Heatmaps:
    height, width = maps_NHW.shape[1:]
    rows, columns = _make_convolution(height, smooth), _make_convolution(width, smooth)
    return np.asarray(rows @ maps_NHW @ columns.T, dtype=np.float32)


@lru_cache(maxsize=_CACHED_MATRICES)
def _make_similarity(length: int, scales: tuple[float, ...]) -> NDArray[np.float32]:
    """(K, length, length): similarity exp(-d^2 / (2 s^2)) of two places in a row, per joint."""
    places = np.arange(length)
    squared = (places[:, None] - places[None, :]) ** 2
    wide_K11 = np.array(scales)[:, None, None]
    return np.asarray(_exp(-squared / (2 * wide_K11**2)), dtype=np.float32)


@cache
def _make_convolution(length: int, sigma: float) -> NDArray[np.float32]:
    """(length, length): a row times this is the row convolved with a Gaussian; what lies outside
    is its reflection, so that a peak on the border is not pulled inwards."""
    reach = int(np.ceil(TRUNCATE_SIGMAS * sigma))
    bell = _bell(np.arange(-reach, reach + 1, dtype=np.float64), sigma)
    padded = np.pad(np.eye(length, dtype=np.float32), ((reach, reach), (0, 0)), "symmetric")
    rows = [bell @ padded[i : i + 2 * reach + 1] for i in range(length)]
    return np.asarray(np.stack(rows) / bell.sum(), dtype=np.float32)


def _refine_peaks(maps_NHW: Heatmaps, peak_N: NDArray[np.intp]) -> NDArray[np.float32]:
    """(N, 2) x and y of the vertex of the parabola through the logarithms of each peak and its two
    neighbors, within half a pixel of the peak; the peak itself on the border.

    Args:
        peak_N: flat index of each peak in its map.
    """
    count, height, width = maps_NHW.shape
    row, column = np.divmod(peak_N, width)
    inside = np.stack([(column > 0) & (column < width - 1), (row > 0) & (row < height - 1)])
    step = inside * np.array([[1], [width]])
    values, at = maps_NHW.reshape(-1), peak_N + np.arange(count) * (height * width)
    before, center, after = (
        np.log(np.maximum(values.take(place), _EPSILON)) for place in (at - step, at, at + step)
    )
    curvature = 2 * center - before - after
    flat_top = curvature <= _EPSILON
    vertex = 0.5 * (after - before) / np.where(flat_top, 1.0, curvature)
    offset = np.where(flat_top, 0.0, np.clip(vertex, -0.5, 0.5)).astype(np.float32)
    return np.ascontiguousarray((np.stack([column, row]) + offset).T, dtype=np.float32)


def _sum_similarity(
    mass_NHW: Heatmaps, xy_N2: NDArray[np.float32], sigma: float, scale_N: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N,) the mass around a place, weighed by exp(-d^2 / (2 s^2)) at distance d.

    The mass of a heatmap as sharp as its target counts wholly.

    Args:
        sigma: of the target, in heatmap pixels.
        scale_N: s of each map, in heatmap pixels.
    """
    _, height, width = mass_NHW.shape
    row_NH, column_NW = (
        _exp(
            -((np.arange(length, dtype=np.float32) - at_N[:, None]) ** 2)
            / (2 * scale_N[:, None] ** 2)
        )
        for length, at_N in ((height, xy_N2[:, 1]), (width, xy_N2[:, 0]))
    )
    weighed_NH = (mass_NHW @ column_NW[:, :, None])[..., 0]
    return np.asarray((weighed_NH * row_NH).sum(axis=1) * (1 + (sigma / scale_N) ** 2))


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
