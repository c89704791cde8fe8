"""Calibrators: from a tensor's statistics to its INT8 range.

`minmax` keeps everything, `moving-average` the mean of each crop's extremes, the others clip:
`percentile-P` a share of the values at either end, `mse` and `entropy` what costs least by mean
squared error or Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.quantize.ranges.observe import NUM_BINS, StatisticsByTensor, TensorStatistics

Range = tuple[float, float]
"""Lowest and highest value that is not clipped; zero lies within."""
Ranges = Mapping[str, Range]
Calibrator = Callable[[TensorStatistics, int], Range]
"""From what was seen of a tensor, and the number of levels of INT8."""

# Of signed INT8 around zero, -127 to 127: zero is a level of its own.
_NUM_LEVELS, _NUM_LEVELS_SIGNED = 256, 255
_RANGE_SCALES = np.linspace(1.0, 0.2, 41)
_MIN_PROBABILITY = 1e-12


def compute_ranges(
    statistics: StatisticsByTensor, method: str, *, signed: bool = False
) -> dict[str, Range]:
    """The range of each tensor by one of `METHODS`.

    Args:
        signed: whether steps lie around zero evenly, so that values of one sign have half of them.
    """
    calibrate = METHODS[method]
    return {
        name: _include_zero(
            calibrate(_make_symmetric(seen), _NUM_LEVELS_SIGNED)
            if signed
            else calibrate(seen, _NUM_LEVELS)
        )
        for name, seen in statistics.items()
    }


def _make_symmetric(seen: TensorStatistics) -> TensorStatistics:
    limit = max(-seen.low, seen.high)
    return replace(seen, low=-limit, high=limit)


def _include_zero(found: Range) -> Range:
    """Zero must be a step of its own: padding and ReLU give it exactly."""
    return min(found[0], 0.0), max(found[1], 0.0)


def _minmax(seen: TensorStatistics, levels: int) -> Range:  # noqa: ARG001
    return seen.low, seen.high


def _moving_average(seen: TensorStatistics, levels: int) -> Range:  # noqa: ARG001
    return seen.mean_low, seen.mean_high


def _make_percentile(percent: float) -> Calibrator:
    def calibrate(seen: TensorStatistics, levels: int) -> Range:  # noqa: ARG001
        counts, centres = seen.histogram.counts, seen.histogram.centres
        below = np.cumsum(counts) / counts.sum()
        outside = (1 - percent / 100) / 2
        low = centres[int(np.searchsorted(below, outside))]
        high = centres[min(int(np.searchsorted(below, 1 - outside)), len(centres) - 1)]
        return max(float(low), seen.low), min(float(high), seen.high)

    return calibrate


def _mse(seen: TensorStatistics, levels: int) -> Range:
    """The mean squared distance of values to their steps; clipped ones lie farthest."""

    def cost(x: NDArray[np.float64], share: NDArray[np.float64], low: float, high: float) -> float:
        step = (high - low) / (levels - 1)
        nearest = low + step * np.clip(np.round((x - low) / step), 0, levels - 1)
        return float((share * (x - nearest) ** 2).sum())

    return _find_cheapest_range(seen, cost)


def _entropy(seen: TensorStatistics, levels: int) -> Range:
    """KL between the histogram, what is clipped put on its ends, and its version of few levels."""

    def cost(x: NDArray[np.float64], share: NDArray[np.float64], low: float, high: float) -> float:
        inside = (x >= low) & (x <= high)
        if not inside.any():
            return np.inf
        p = share[inside].copy()
        p[0] += share[x < low].sum()
        p[-1] += share[x > high].sum()
        step = (high - low) / levels
        level = np.clip(((x[inside] - low) / step).astype(np.int64), 0, levels - 1)
        mass = np.bincount(level, share[inside], levels)
        q = (mass / np.maximum(np.bincount(level, minlength=levels), 1))[level]
        q /= q.sum()
        return float(
            (p * np.log(np.maximum(p, _MIN_PROBABILITY) / np.maximum(q, _MIN_PROBABILITY))).sum()
        )

    # Zeros, half of what a ReLU gives, have a step of their own in any range. Counted with the rest
    # they would be told apart from their neighbours only by steps that are far too small.
    return _find_cheapest_range(seen, cost, without_zeros=True)


_Cost = Callable[[NDArray[np.float64], NDArray[np.float64], float, float], float]


def _find_cheapest_range(
    seen: TensorStatistics, cost: _Cost, *, without_zeros: bool = False
) -> Range:
    """The best of evenly spaced shrinkings of the extremes."""
    low, high = _include_zero((seen.low, seen.high))
    if high <= low:
        return low, high
    counted = seen.histogram.counts
    if without_zeros:
        counted = counted.copy()
        counted[NUM_BINS // 2] = counted[NUM_BINS // 2 + 1]
    filled = counted > 0
    x, counts = seen.histogram.centres[filled], counted[filled]
    x = np.clip(x, seen.low, seen.high)
    costs = [cost(x, counts / counts.sum(), low * s, high * s) for s in _RANGE_SCALES]
    best = float(_RANGE_SCALES[int(np.argmin(costs))])
    return low * best, high * best


METHODS: dict[str, Calibrator] = {
    "moving-average": _moving_average,
    "minmax": _minmax,
    "percentile-99.99": _make_percentile(99.99),
    "percentile-99.9": _make_percentile(99.9),
    "mse": _mse,
    "entropy": _entropy,
}
