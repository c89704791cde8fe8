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
    assert found.score_BK[0, 0] == pytest.approx(mean / (1 + mean), abs=1e-5)


def test_a_flat_map_says_half_at_zero_and_less_below():
    maps = [np.full((1, 1, 8, 8), v, np.float32) for v in (-200.0, -3.0, 0.0, 3.0, 200.0)]
    scores = [float(decode(m, HeatmapKind.PRESENCE, 1.5).score_BK[0, 0]) for m in maps]
    assert scores == sorted(scores) and scores[2] == pytest.approx(0.5)
    assert scores[0] == pytest.approx(0.0) and scores[4] == pytest.approx(1.0)


def test_smoothing_leaves_the_score_alone():
    maps = logits((10.0, 10.0), 9.0, -4.0)
    one, two = (decode(maps, HeatmapKind.PRESENCE, 1.5, smooth=s).score_BK for s in (0.0, 1.0))
    assert one == two
