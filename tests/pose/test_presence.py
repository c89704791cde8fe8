import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.heatmap import HeatmapKind, decode, gaussians


def logits(xy, height, level):
    """A peak of `height` above a floor at `level`."""
    return (gaussians(np.array([xy], np.float32), (32, 24), 1.5) * height + level)[None]


@given(st.floats(2, 29), st.floats(2, 21), st.floats(-6, 6))
def test_the_level_moves_the_score_and_not_the_place(x, y, level):
    found = decode(logits((x, y), 12.0, level), HeatmapKind.PRESENCE, 1.5)
    plain = decode(logits((x, y), 12.0, 0.0), HeatmapKind.LOGITS, 1.5)
    assert np.allclose(found.xy_BK2, plain.xy_BK2, atol=1e-3)
    maps = logits((x, y), 12.0, level).astype(np.float64)
    mean = np.exp(maps).mean()
    presence = mean / (1 + mean)
    assert found.score_BK[0, 0] == pytest.approx(presence * plain.score_BK[0, 0], abs=1e-5)


def test_the_level_of_a_flat_map_halves_the_score_at_zero_and_takes_it_below():
    levels = (-200.0, -3.0, 0.0, 3.0, 200.0)
    maps = [np.full((1, 1, 8, 8), v, np.float32) for v in levels]
    scores = [float(decode(m, HeatmapKind.PRESENCE, 1.5).score_BK[0, 0]) for m in maps]
    certainty = float(decode(maps[2], HeatmapKind.LOGITS, 1.5).score_BK[0, 0])
    assert scores == sorted(scores) and scores[2] == pytest.approx(certainty / 2)
    assert scores[0] == pytest.approx(0.0) and scores[4] == pytest.approx(certainty)


def score_of_target_peaks(*places):
    """Of a heatmap that is as sharp as its target, with equal mass at each place, surely there."""
    mass = gaussians(np.array(places, np.float32), (32, 24), 1.5).sum(axis=0)
    maps = np.log(np.maximum(mass, 1e-9)) + 20.0
    return float(decode(maps[None, None], HeatmapKind.PRESENCE, 1.5).score_BK[0, 0])


def test_the_score_is_the_share_of_the_mass_that_is_near():
    assert score_of_target_peaks((6, 6)) == pytest.approx(1.0, abs=0.02)
    assert score_of_target_peaks((6, 6), (26, 18)) == pytest.approx(0.5, abs=0.02)
    assert score_of_target_peaks((6, 6), (26, 6), (16, 18)) == pytest.approx(1 / 3, abs=0.02)


def test_what_lies_within_the_tolerance_of_the_metric_counts_more_than_what_lies_far():
    far, near = (score_of_target_peaks((10, 10), (10 + d, 10)) for d in (12, 1))
    assert near > 0.85 > 0.55 > far


def test_smoothing_leaves_the_score_alone():
    maps = logits((10.0, 10.0), 9.0, -4.0)
    one, two = (decode(maps, HeatmapKind.PRESENCE, 1.5, smooth=s).score_BK for s in (0.0, 1.0))
    assert one == two
