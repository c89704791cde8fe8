import numpy as np
import pytest

from okdhp_edge.data.synthetic_person import (
    Posture,
    compute_joints,
    interpolate_postures,
    random_posture,
)
from okdhp_edge.pose.skeleton import LSP14


def _standing(**changes: float) -> Posture:
    still = dict.fromkeys(Posture.__dataclass_fields__, 0.0)
    return Posture(**{**still, "turn": 1.0, **changes})


def test_a_standing_figure_facing_us_has_its_left_on_our_right():
    xy = dict(zip(LSP14.joints, compute_joints(_standing(), 100), strict=True))
    assert xy["left_shoulder"][0] > xy["right_shoulder"][0]
    assert xy["head_top"][1] < xy["neck"][1] < xy["left_hip"][1] < xy["left_ankle"][1]


def test_seen_from_behind_the_sides_change_over():
    xy = dict(zip(LSP14.joints, compute_joints(_standing(turn=-1.0), 100), strict=True))
    assert xy["left_shoulder"][0] < xy["right_shoulder"][0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_mixing_ends_at_its_ends(share):
    a, b = (random_posture(np.random.default_rng(i)) for i in range(2))
    assert interpolate_postures(a, b, share) == (a, b)[int(share)]


def test_limb_lengths_do_not_depend_on_the_posture():
    lengths = []
    for seed in range(5):
        xy = compute_joints(random_posture(np.random.default_rng(seed)), 100)
        knee, ankle = (xy[LSP14.joints.index(f"left_{j}")] for j in ("knee", "ankle"))
        lengths.append(np.linalg.norm(knee - ankle))
    np.testing.assert_allclose(lengths, lengths[0])
