"""Of the candidates on one person one is left, and nothing depends on their order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.candidate_boxes import decode_candidates
from okdhp_edge.pose.center_map import MAX_DETECTIONS


def _candidates(*rows):
    """(1, 5, 1, N) of (score, left, top, right, bottom)."""
    return np.array(rows, np.float32).T[None, :, None]


def _read(decoded):
    """Boxes as (score, left, top, right, bottom), those that were found."""
    boxes = decoded.xy_BK2[0].reshape(-1, 4) + 0.5
    scores = decoded.score_BK[0, ::2]
    return [(round(float(s), 3), *map(float, b)) for s, b in zip(scores, boxes, strict=True) if s]


def test_the_surest_of_overlapping_boxes_is_kept():
    near = (0.6, 11, 10, 51, 110)
    best, other = (0.9, 10, 10, 50, 110), (0.4, 100, 20, 140, 90)
    found = decode_candidates(_candidates(near, other, best, (0.01, 60, 60, 70, 70)), 0.6)
    assert found.xy_BK2.shape == (1, 2 * MAX_DETECTIONS, 2)
    assert _read(found) == [best, other]


def test_people_beside_each_other_are_two():
    left, right = (0.9, 0, 0, 40, 100), (0.8, 20, 0, 60, 100)
    assert _read(decode_candidates(_candidates(left, right), 0.6)) == [left, right]
    assert _read(decode_candidates(_candidates(left, right), 0.3)) == [left]


def test_without_people_there_are_no_boxes():
    assert _read(decode_candidates(_candidates((0.01, 0, 0, 4, 4)), 0.6)) == []


@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_the_order_of_candidates_changes_nothing(order, seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 200, (6, 2)), rng.uniform(20, 100, (6, 2))
    scores = rng.permutation(np.linspace(0.1, 0.9, 6))[:, None]
    rows = np.hstack([scores, corner, corner + size])
    expected = _read(decode_candidates(_candidates(*rows), 0.5))
    assert _read(decode_candidates(_candidates(*rows[list(order)]), 0.5)) == expected
    assert expected[0][0] == 0.9


def test_unless_told_otherwise_boxes_of_one_person_overlap_by_more_than_0_6():
    """Boxes of 40x100 moved by 8 share 32/48 of their union, by 12 28/52."""
    best, same, other = (0.9, 0, 0, 40, 100), (0.8, 8, 0, 48, 100), (0.7, 12, 0, 52, 100)
    assert _read(decode_candidates(_candidates(best, same))) == [best]
    assert _read(decode_candidates(_candidates(best, other))) == [best, other]
