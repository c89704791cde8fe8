import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.heatmap import HeatmapKind, decode, gaussians

inner_positions = st.lists(st.tuples(st.floats(7, 24), st.floats(7, 16)), min_size=1, max_size=5)
positions = st.lists(st.tuples(st.floats(2, 29), st.floats(2, 21)), min_size=1, max_size=5)


@given(positions, st.sampled_from([1.0, 1.5, 2.0]))
def test_decoding_finds_what_was_encoded_to_a_twentieth_of_a_pixel(points, sigma):
    xy = np.array(points)
    maps = gaussians(xy, (32, 24), sigma)
    assert maps.shape == (len(points), 24, 32)
    decoded = decode(maps[None], HeatmapKind.GAUSSIAN, sigma)
    np.testing.assert_allclose(decoded.xy_BK2[0], xy, atol=0.05)
    assert (decoded.score_BK > 0.7).all()


@given(inner_positions)
def test_logits_decode_like_the_gaussians_they_are_the_logarithm_of(points):
    xy, sigma = np.array(points), 1.5
    logits = np.log(np.maximum(gaussians(xy, (32, 24), sigma), 1e-4)) + 7.0
    decoded = decode(logits[None].astype(np.float32), HeatmapKind.LOGITS, sigma)
    np.testing.assert_allclose(decoded.xy_BK2[0], xy, atol=0.05)
    assert (decoded.score_BK > 0.8).all()


def test_a_flat_map_scores_what_its_middle_can_expect_and_a_sure_one_near_all():
    flat = np.zeros((1, 1, 32, 32), np.float32)
    share = 2 * np.pi / 7**2  # of a Gaussian with a seventh of the side
    found = decode(flat, HeatmapKind.LOGITS, 1.5).score_BK[0, 0]
    assert found == pytest.approx(share, rel=0.15)
    peak = flat.copy()
    peak[0, 0, 5, 9] = 50
    sure = decode(peak, HeatmapKind.LOGITS, 1.5)
    assert sure.score_BK[0, 0] == pytest.approx(1.0)
    np.testing.assert_allclose(sure.xy_BK2[0, 0], [9, 5])


@pytest.mark.parametrize("corner", [(0, 0), (0, 31), (23, 0), (23, 31)])
@pytest.mark.parametrize("kind", [HeatmapKind.GAUSSIAN, HeatmapKind.LOGITS, HeatmapKind.PRESENCE])
def test_a_peak_on_the_border_stays_on_it(corner, kind):
    maps = np.full((1, 1, 24, 32), 0.01, np.float32)
    maps[0, 0, corner[0], corner[1]] = 1.0 if kind is HeatmapKind.GAUSSIAN else 30.0
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


@pytest.mark.parametrize("kind", [HeatmapKind.GAUSSIAN, HeatmapKind.LOGITS])
def test_smoothing_prefers_much_mass_to_one_high_pixel(kind):
    maps = np.full((1, 1, 24, 32), 1e-3, np.float32)
    maps[0, 0, 4, 4] = 1.0
    maps[0, 0, 14:17, 20:23] = 0.8
    maps = np.log(maps) if kind is HeatmapKind.LOGITS else maps
    if kind is HeatmapKind.GAUSSIAN:
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
    np.testing.assert_allclose(found.xy_BK2[0, 0], [5, 3], atol=0.01)
    expected = 0.5 * (1 + np.exp(-2)) * (1 + (1 / 2) ** 2)
    assert found.score_BK[0, 0] == pytest.approx(expected, abs=2e-3)


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


@given(st.integers(0, 2**32 - 1))
def test_a_joint_lies_where_its_expected_similarity_is_highest(seed):
    """By brute force, with COCO's k = 2 sigma and a person who covers a quarter of the heatmap."""
    rng = np.random.default_rng(seed)
    sigmas = rng.uniform(0.02, 0.11, 3)
    logits = (3 * rng.normal(size=(1, 3, 14, 14))).astype(np.float32)
    found = decode(logits, HeatmapKind.LOGITS, 1.0, 0.0, sigmas).xy_BK2[0]
    rows, columns = np.mgrid[:14, :14]
    for joint in range(3):
        probability = np.exp(logits[0, joint]) / np.exp(logits[0, joint]).sum()
        scale = sigmas[joint] / sigmas.mean()  # the heatmap's side is 14
        expected = [
            (probability * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * scale**2))).sum()
            for y, x in np.ndindex(14, 14)
        ]
        y, x = divmod(int(np.argmax(expected)), 14)
        assert np.abs(found[joint] - [x, y]).max() <= 0.5 + 1e-6


def test_a_joint_that_people_place_loosely_lies_between_two_near_places():
    maps = np.full((1, 2, 28, 28), -60, np.float32)
    maps[0, :, 14, [11, 15]] = 0.0
    tight, loose = decode(maps, HeatmapKind.LOGITS, 1.0, 0.0, np.array([0.025, 0.107])).xy_BK2[0]
    assert min(abs(tight[0] - 11), abs(tight[0] - 15)) < 0.1
    assert loose[0] == pytest.approx(13, abs=0.1)


@pytest.mark.parametrize("kind", [HeatmapKind.LOGITS, HeatmapKind.PRESENCE])
def test_a_sure_network_is_decoded_without_subnormal_numbers(kind):
    """They are slow: far from a sharp peak all exponentials would be such numbers."""
    rows, columns = np.mgrid[:56, :40]
    places = [(5 + i, 9 + 2 * i) for i in range(17)]
    maps = np.stack([-((columns - x) ** 2 + (rows - y) ** 2.0) for x, y in places])[None]
    with np.errstate(under="raise"):
        found = decode(maps.astype(np.float32), kind, 1.0, 0.0, np.linspace(0.025, 0.107, 17))
    np.testing.assert_allclose(found.xy_BK2[0], places, atol=0.05)
