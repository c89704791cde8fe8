import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.center_map import (
    MAX_DETECTIONS,
    compute_probability,
    decode_centers,
    decode_corners,
)

HEIGHT, WIDTH = 20, 24


def encode(boxes, scores):
    """Maps (1, 5, H, W) that hold these boxes (left, top, right, bottom), each in its cell."""
    maps = np.zeros((1, 5, HEIGHT, WIDTH), np.float32)
    maps[0, 0] = -8
    for (left, top, right, bottom), score in zip(boxes, scores, strict=True):
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = round(x), round(y)
        maps[0, 0, row, column] = np.log(score / (1 - score))
        maps[0, 1:3, row, column] = x - column, y - row
        maps[0, 3:5, row, column] = np.log(right - left), np.log(bottom - top)
    return maps


@given(
    st.floats(1, WIDTH - 2), st.floats(1, HEIGHT - 2), st.floats(0.2, 40), st.floats(0.2, 40),
    st.floats(0.05, 0.95),
)  # fmt: skip
def test_a_box_comes_back_as_it_was_put_in(x, y, width, height, score):
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    found = decode_centers(encode([box], [score]))
    assert found.xy_BK2[0, :2].ravel() == pytest.approx(box, abs=1e-3)
    assert found.score_BK[0, :2] == pytest.approx(score, abs=1e-4)


def test_boxes_come_by_their_scores_and_a_weaker_neighbor_is_none():
    boxes = [(2, 2, 6, 6), (10, 10, 14, 18), (11, 10, 15, 18)]
    found = decode_centers(encode(boxes, [0.5, 0.9, 0.6]))
    likely = found.score_BK[0, ::2] > 0.1
    assert likely.sum() == 2  # the third center lies beside a higher one
    corners = found.xy_BK2[0].reshape(-1, 4)[:2]
    assert corners == pytest.approx(np.array([boxes[1], boxes[0]], float), abs=1e-4)


def test_every_map_gives_as_many_corners_and_empty_ones_score_nothing():
    found = decode_centers(np.full((3, 5, 2, 2), -50, np.float32))
    assert found.xy_BK2.shape == (3, 2 * MAX_DETECTIONS, 2)
    assert found.score_BK.shape == (3, 2 * MAX_DETECTIONS)
    assert found.score_BK.max() < 1e-6


def test_extreme_values_stay_finite():
    maps = np.full((1, 5, 4, 4), 1e6, np.float32)
    assert np.isfinite(decode_corners(maps)).all()
    assert compute_probability(np.array([-1e6, 0, 1e6], np.float32)).tolist() == [0, 0.5, 1]


HEIGHT, WIDTH = 20, 24


def test_people_two_cells_apart_are_two():
    boxes = [(8, 8, 12, 16), (10, 8, 14, 16)]
    found = decode_centers(encode(boxes, [0.9, 0.6]))
    assert (found.score_BK[0, ::2] > 0.1).sum() == 2
