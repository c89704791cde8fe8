"""From what a tensor held to the range that 256 steps shall cover.

`minmax` keeps everything, `moving-average` the mean of each crop's extremes, the others clip:
`percentile-P` a share of the values at either end, `mse` and `entropy` what costs least by mean
squared error or Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.quantize.observe import BINS, StatisticsByTensor, TensorStatistics

Range = tuple[float, float]
"""Lowest and highest value that is not clipped; zero lies within."""
Ranges = Mapping[str, Range]

_STEPS = 256
_SHRINKS = np.linspace(1.0, 0.2, 41)
_TINY = 1e-12


def compute_ranges(statistics: StatisticsByTensor, method: str) -> dict[str, Range]:
    """The range of each tensor by one of `METHODS`."""
    calibrate = METHODS[method]
    return {name: _with_zero(calibrate(seen)) for name, seen in statistics.items()}


def _with_zero(found: Range) -> Range:
    """Zero must be a step of its own: padding and ReLU give it exactly."""
    return min(found[0], 0.0), max(found[1], 0.0)


def _minmax(seen: TensorStatistics) -> Range:
    return seen.low, seen.high


def _moving_average(seen: TensorStatistics) -> Range:
    return seen.mean_low, seen.mean_high


def _percentile(percent: float) -> Callable[[TensorStatistics], Range]:
    def calibrate(seen: TensorStatistics) -> Range:
        counts, centres = seen.histogram.counts, seen.histogram.centres
        below = np.cumsum(counts) / counts.sum()
        outside = (1 - percent / 100) / 2
        low = centres[int(np.searchsorted(below, outside))]
        high = centres[min(int(np.searchsorted(below, 1 - outside)), len(centres) - 1)]
        return max(float(low), seen.low), min(float(high), seen.high)

    return calibrate


def _mse(seen: TensorStatistics) -> Range:
    """The mean squared distance of values to their steps; clipped ones lie farthest."""

    def cost(x: NDArray[np.float64], share: NDArray[np.float64], low: float, high: float) -> float:
        step = (high - low) / (_STEPS - 1)
        nearest = low + step * np.clip(np.round((x - low) / step), 0, _STEPS - 1)
        return float((share * (x - nearest) ** 2).sum())

    return _cheapest(seen, cost)


def _entropy(seen: TensorStatistics) -> Range:
    """KL between the histogram, what is clipped put on its ends, and its 256-step version."""

    def cost(x: NDArray[np.float64], share: NDArray[np.float64], low: float, high: float) -> float:
        inside = (x >= low) & (x <= high)
        if not inside.any():
            return np.inf
        p = share[inside].copy()
        p[0] += share[x < low].sum()
        p[-1] += share[x > high].sum()
        step = (high - low) / _STEPS
        level = np.clip(((x[inside] - low) / step).astype(np.int64), 0, _STEPS - 1)
        mass = np.bincount(level, share[inside], _STEPS)
        q = (mass / np.maximum(np.bincount(level, minlength=_STEPS), 1))[level]
        q /= q.sum()
        return float((p * np.log(np.maximum(p, _TINY) / np.maximum(q, _TINY))).sum())

    # Zeros, half of what a ReLU gives, have a step of their own in any range. Counted with the rest
    # they would be told apart from their neighbours only by steps that are far too small.
    return _cheapest(seen, cost, without_zeros=True)


_Cost = Callable[[NDArray[np.float64], NDArray[np.float64], float, float], float]


def _cheapest(seen: TensorStatistics, cost: _Cost, *, without_zeros: bool = False) -> Range:
    """The best of evenly spaced shrinkings of the extremes."""
    low, high = _with_zero((seen.low, seen.high))
    if high <= low:
        return low, high
    counted = seen.histogram.counts
    if without_zeros:
        counted = counted.copy()
        counted[BINS // 2] = counted[BINS // 2 + 1]
    filled = counted > 0
    x, counts = seen.histogram.centres[filled], counted[filled]
    x = np.clip(x, seen.low, seen.high)
    costs = [cost(x, counts / counts.sum(), low * s, high * s) for s in _SHRINKS]
    best = float(_SHRINKS[int(np.argmin(costs))])
    return low * best, high * best


METHODS: dict[str, Callable[[TensorStatistics], Range]] = {
    "moving-average": _moving_average,
    "minmax": _minmax,
    "percentile-99.99": _percentile(99.99),
    "percentile-99.9": _percentile(99.9),
    "mse": _mse,
    "entropy": _entropy,
}
