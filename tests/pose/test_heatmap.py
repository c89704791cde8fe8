import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.heatmap import HeatmapKind, decode, gaussians

positions = st.lists(st.tuples(st.floats(2, 29), st.floats(2, 21)), min_size=1, max_size=5)


@given(positions, st.sampled_from([1.0, 1.5, 2.0]))
def test_decoding_finds_what_was_encoded_to_a_twentieth_of_a_pixel(points, sigma):
    xy = np.array(points)
    maps = gaussians(xy, (32, 24), sigma)
    assert maps.shape == (len(points), 24, 32)
    decoded = decode(maps[None], HeatmapKind.GAUSSIAN, sigma)
    np.testing.assert_allclose(decoded.xy_BK2[0], xy, atol=0.05)
    assert (decoded.score_BK > 0.7).all()


@given(positions)
def test_logits_decode_like_the_gaussians_they_are_the_logarithm_of(points):
    xy, sigma = np.array(points), 1.5
    logits = np.log(np.maximum(gaussians(xy, (32, 24), sigma), 1e-4)) + 7.0
    decoded = decode(logits[None].astype(np.float32), HeatmapKind.LOGITS, sigma)
    np.testing.assert_allclose(decoded.xy_BK2[0], xy, atol=0.05)
    assert (decoded.score_BK > 0.8).all()


def test_a_flat_map_scores_near_nothing_and_a_sure_one_near_all():
    flat = np.zeros((1, 1, 32, 32), np.float32)
    assert decode(flat, HeatmapKind.LOGITS, 1.5).score_BK[0, 0] < 0.05
    peak = flat.copy()
    peak[0, 0, 5, 9] = 50
    sure = decode(peak, HeatmapKind.LOGITS, 1.5)
    assert sure.score_BK[0, 0] == pytest.approx(1.0)
    np.testing.assert_allclose(sure.xy_BK2[0, 0], [9, 5])


@pytest.mark.parametrize("corner", [(0, 0), (0, 31), (23, 0), (23, 31)])
@pytest.mark.parametrize("kind", list(HeatmapKind))
def test_a_peak_on_the_border_stays_on_it(corner, kind):
    maps = np.full((1, 1, 24, 32), 0.01, np.float32)
    maps[0, 0, corner[0], corner[1]] = 1.0
    decoded = decode(maps, kind, 1.5)
    np.testing.assert_allclose(decoded.xy_BK2[0, 0], [corner[1], corner[0]])


def test_plateaus_of_int8_do_not_break_the_refinement():
    maps = np.zeros((1, 1, 8, 8), np.float32)
    maps[0, 0, 3:5, 3:6] = 1.0
    assert np.isfinite(decode(maps, HeatmapKind.GAUSSIAN, 1.0).xy_BK2).all()


def test_batches_and_joints_are_decoded_independently():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 4, 12, 10)).astype(np.float32)
    whole = decode(maps, HeatmapKind.LOGITS, 1.5)
    for b in range(3):
        for k in range(4):
            one = decode(maps[b : b + 1, k : k + 1], HeatmapKind.LOGITS, 1.5)
            np.testing.assert_allclose(one.xy_BK2[0, 0], whole.xy_BK2[b, k])
            np.testing.assert_allclose(one.score_BK[0, 0], whole.score_BK[b, k])


@given(st.floats(8, 23), st.floats(8, 15), st.sampled_from([0.7, 1.0, 2.0]))
def test_smoothing_leaves_a_clean_peak_where_it_is(x, y, smooth):
    xy, sigma = np.array([[x, y]]), 1.5
    logits = np.log(np.maximum(gaussians(xy, (32, 24), sigma), 1e-6)).astype(np.float32)
    found = decode(logits[None], HeatmapKind.LOGITS, sigma, smooth)
    np.testing.assert_allclose(found.xy_BK2[0], xy, atol=0.1)


@pytest.mark.parametrize("kind", list(HeatmapKind))
def test_smoothing_prefers_much_mass_to_one_high_pixel(kind):
    maps = np.full((1, 1, 24, 32), 1e-3, np.float32)
    maps[0, 0, 4, 4] = 1.0
    maps[0, 0, 14:17, 20:23] = 0.8
    maps = np.log(maps) if kind is HeatmapKind.LOGITS else maps
    np.testing.assert_allclose(decode(maps, kind, 1.5).xy_BK2[0, 0], [4, 4])
    smooth = decode(maps, kind, 1.5, 1.0)
    np.testing.assert_allclose(smooth.xy_BK2[0, 0], [21, 15], atol=0.1)
    assert 0 < smooth.score_BK[0, 0] <= 1


@pytest.mark.parametrize("corner", [(0, 0), (0, 31), (23, 0), (23, 31)])
def test_a_smoothed_peak_on_the_border_stays_on_it(corner):
    maps = np.full((1, 1, 24, 32), -9.0, np.float32)
    maps[0, 0, corner[0], corner[1]] = 1.0
    found = decode(maps, HeatmapKind.LOGITS, 1.5, 1.0)
    np.testing.assert_allclose(found.xy_BK2[0, 0], [corner[1], corner[0]])


def test_mass_at_a_distance_counts_by_a_seventh_of_the_heatmaps_side():
    """7 x 28 cells: the side is 14, the scale 2; half of the mass lies 4 away: exp(-16 / 8)."""
    maps = np.full((1, 1, 7, 28), -60, np.float32)
    maps[0, 0, 3, [5, 9]] = 0.0
    found = decode(maps, HeatmapKind.LOGITS, sigma=1.0)
    np.testing.assert_allclose(found.xy_BK2[0, 0], [5, 3])
    expected = 0.5 * (1 + np.exp(-2)) * (1 + (1 / 2) ** 2)
    assert found.score_BK[0, 0] == pytest.approx(expected, abs=1e-4)


def test_a_smoothed_peak_is_refined_where_it_is_smooth_and_scored_in_the_map_itself():
    maps = np.zeros((1, 1, 16, 24), np.float32)
    maps[0, 0, 8, 10:13] = 1.0, 0.3, 0.9
    found = decode(maps, HeatmapKind.GAUSSIAN, 1.5, smooth=1.0)
    one, two = np.exp(-0.5), np.exp(-2.0)  # of a Gaussian with sigma 1, that far from its middle
    before, centre, after = np.log(
        [1 + 0.3 * one + 0.9 * two, one + 0.3 + 0.9 * one, two + 0.3 * one + 0.9]
    )
    x = 11 + 0.5 * (after - before) / (2 * centre - before - after)
    np.testing.assert_allclose(found.xy_BK2[0, 0], [x, 8], atol=1e-4)
    assert found.score_BK[0, 0] == pytest.approx(0.3)
