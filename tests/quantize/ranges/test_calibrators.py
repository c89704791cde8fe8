"""Each calibrator against what its name says, on distributions whose answer is known."""

import numpy as np
import pytest

from okdhp_edge.quantize.ranges.calibrators import METHODS, compute_ranges
from okdhp_edge.quantize.ranges.observe import TensorStatistics


def _seen(*tensors):
    observed = TensorStatistics()
    for tensor in tensors:
        observed.add(np.asarray(tensor, dtype=np.float32).reshape(1, 1, 1, -1))
    return {"t": observed}


def _range(method, *tensors):
    return compute_ranges(_seen(*tensors), method)["t"]


RNG = np.random.default_rng(0)
NORMAL = RNG.normal(0, 1, 30000)
OUTLIER = np.append(np.abs(RNG.normal(0, 1, 30000)), 40.0)


def test_minmax_keeps_everything_and_the_moving_average_the_mean_of_extremes():
    assert _range("minmax", [-1, 2], [-3, 8]) == (-3, 8)
    assert _range("moving-average", [-1, 2], [-3, 8]) == (-2, 5)


@pytest.mark.parametrize(
    ("method", "percent"), [("percentile-99.9", 99.9), ("percentile-99.99", 99.99)]
)
def test_percentiles_are_numpys(method, percent):
    low, high = _range(method, NORMAL)
    outside = (100 - percent) / 2
    # To a histogram's bin, and to the spacing of samples so far out.
    assert low == pytest.approx(np.percentile(NORMAL, outside), abs=0.1)
    assert high == pytest.approx(np.percentile(NORMAL, 100 - outside), abs=0.1)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_zero_lies_within_every_range(method):
    low, high = _range(method, RNG.uniform(2, 5, 1000))
    assert low == 0 and high > 2
    low, high = _range(method, RNG.uniform(-5, -2, 1000))
    assert high == 0 and low < -2


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_tensor_of_zeros_has_a_range(method):
    assert _range(method, np.zeros(100)) == (0, 0)


@pytest.mark.parametrize("method", ["entropy", "percentile-99.9"])
def test_one_outlier_does_not_set_the_range(method):
    """onnxruntime's own entropy calibrator keeps it, at the bins that it cannot be told to have."""
    assert _range("minmax", OUTLIER)[1] == 40
    assert _range(method, OUTLIER)[1] < 15


def test_mse_finds_what_trying_everything_finds():
    heavy = RNG.standard_t(3, 30000).astype(np.float32)
    low, high = _range("mse", heavy)

    def cost(low, high):
        step = (high - low) / 255
        return np.square(
            heavy - (low + step * np.clip(np.round((heavy - low) / step), 0, 255))
        ).mean()

    shrinks = [cost(heavy.min() * s, heavy.max() * s) for s in np.linspace(1, 0.2, 41)]
    assert cost(low, high) == pytest.approx(min(shrinks), rel=0.02)
    assert cost(low, high) < cost(heavy.min(), heavy.max())


def test_without_a_tail_nothing_is_clipped():
    uniform = RNG.uniform(-1, 1, 30000)
    low, high = _range("mse", uniform)
    assert (low, high) == pytest.approx((-1, 1), abs=0.05)


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_zeros_of_a_relu_do_not_narrow_the_range(method):
    relu = np.maximum(RNG.normal(0, 1, 200_000), 0)
    low, high = _range(method, *np.split(relu, 10))
    assert low == 0 and high > 3  # a thousandth lies above


def test_values_of_one_sign_have_half_of_the_levels_of_signed_int8():
    """By brute force: the cheapest shrinking for 127 steps from zero."""
    values = np.maximum(NORMAL, 0)
    found = compute_ranges(_seen(values), "mse", signed=True)["t"][1]
    limits = values.max() * np.linspace(0.2, 1.0, 161)
    costs = []
    for limit in limits:
        step = limit / 127
        nearest = step * np.minimum(np.round(values / step), 127)
        costs.append(((values - nearest) ** 2).mean())
    assert found == pytest.approx(limits[int(np.argmin(costs))], rel=0.05)
