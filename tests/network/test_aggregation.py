import pytest
import torch

from okdhp_edge.network.aggregation import FeatureAggregationUnit
from okdhp_edge.network.build import count_macs, count_parameters

VARIANTS = ("released", "paper", "depthwise", "mean")


def _unit(variant, branches=3, joints=16, channels=32):
    torch.manual_seed(0)
    return FeatureAggregationUnit(variant, channels, branches, joints).eval()


def test_the_released_form_has_the_published_size_and_cost():
    unit = _unit("released", channels=256)
    assert count_parameters(unit) == 5_461_360
    features = torch.zeros(1, 256, 64, 64)
    macs = count_macs(unit, features, torch.zeros(1, 3, 16, 64, 64))
    mixing = 3 * 16 * 64 * 64  # the weighted sum itself, which the published count leaves out
    assert macs - mixing == 22_280_162_304


def test_the_figures_form_is_a_quarter_million_larger():
    extra = count_parameters(_unit("paper", channels=256)) - count_parameters(
        _unit("released", channels=256)
    )
    points = 4 * (256 * 256 + 256)
    wider_reduction = 3 * 256 * 64
    assert extra == points + wider_reduction


def test_depthwise_costs_about_one_percent():
    inputs = torch.zeros(1, 256, 64, 64), torch.zeros(1, 3, 16, 64, 64)
    dense, light = (count_macs(_unit(v, channels=256), *inputs) for v in ("released", "depthwise"))
    assert light < 0.01 * dense


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("branches", [1, 2, 4])
def test_weights_sum_to_one_over_branches(variant, branches):
    weights = _unit(variant, branches).weights(torch.randn(5, 32, 8, 8))
    assert weights.shape == (5, branches, 16)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5, 16))
    assert (weights > 0).all()


def test_equal_weights_give_the_mean():
    heatmaps = torch.randn(2, 3, 16, 8, 8)
    ensemble = _unit("mean")(torch.randn(2, 32, 8, 8), heatmaps)
    torch.testing.assert_close(ensemble, heatmaps.mean(dim=1))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "mean"])
def test_weights_look_at_the_features(variant):
    unit = _unit(variant)
    a, b = (unit.weights(torch.randn(1, 32, 8, 8)) for _ in range(2))
    assert not torch.allclose(a, b)
