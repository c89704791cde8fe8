"""A box that goes where the joints go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.inference.tracking.box_motion import (
    fit_to_joints,
    limit_to_frame,
    measure_margins,
    move_with_joints,
    to_corners,
)
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import COCO17

BOX = np.array([100.0, 50.0, 80.0, 200.0])


def make_pose(box=BOX, score=0.9, seed=0) -> Pose:
    """Joints anywhere in the inner nine tenths of a box."""
    shares = np.random.default_rng(seed).uniform(0.05, 0.95, (len(COCO17), 2))
    xy = (box[:2] + shares * box[2:]).astype(np.float32)
    return Pose(COCO17, xy, np.full(len(COCO17), score, np.float32))


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.92, 1.08))
def test_the_box_moves_and_scales_as_all_joints_do(x, y, scale):
    before = make_pose()
    middle = before.xy.mean(axis=0)
    after = Pose(COCO17, (before.xy - middle) * scale + middle + (x, y), before.score)
    moved = move_with_joints(BOX, before, after)
    expected = (to_corners(BOX).reshape(2, 2) - middle) * scale + middle + (x, y)
    np.testing.assert_allclose(to_corners(moved).reshape(2, 2), expected, atol=0.05)


def test_a_joint_that_comes_into_view_does_not_change_the_box():
    hidden = make_pose().score.copy()
    hidden[-2:] = 0.1
    before, after = make_pose(), make_pose()
    moved = move_with_joints(BOX, Pose(COCO17, before.xy, hidden), after)
    np.testing.assert_allclose(moved, BOX, atol=1e-3)


def test_two_joints_do_not_say_where_a_person_went():
    score = np.zeros(len(COCO17), np.float32)
    score[:2] = 0.9
    pose = Pose(COCO17, make_pose().xy, score)
    assert move_with_joints(BOX, pose, make_pose()) is None


def test_a_joint_that_leaves_the_box_widens_it_at_once_and_the_box_returns_slowly():
    pose = make_pose()
    margins = measure_margins(BOX, pose)
    raised = pose.xy.copy()
    raised[9] = (BOX[0] - 40, BOX[1] - 60)
    wide = fit_to_joints(BOX, Pose(COCO17, raised, pose.score), margins)
    assert wide[0] == pytest.approx(BOX[0] - 40) and wide[1] == pytest.approx(BOX[1] - 60)
    once = fit_to_joints(wide, pose, margins)
    assert wide[1] < once[1] < BOX[1]
    for _ in range(80):
        wide = fit_to_joints(wide, pose, margins)
    np.testing.assert_allclose(wide, BOX, atol=0.5)


def test_a_box_that_the_detector_drew_within_the_joints_stays_there():
    narrow = np.add(BOX, (20, 0, -40, 0))
    pose = make_pose()
    np.testing.assert_allclose(
        fit_to_joints(narrow, pose, measure_margins(narrow, pose)), narrow, atol=1e-3
    )


def test_a_box_does_not_grow_without_end():
    frame = np.zeros((48, 64, 3), np.uint8)
    inside = np.array([-10.0, 5, 60, 40])
    np.testing.assert_array_equal(limit_to_frame(inside, frame), inside)
    for box in ([-1e9, -1e9, 3e9, 3e9], [1e9, 1e9, 5, 5], [-1e9, -1e9, 5, 5]):
        limited = limit_to_frame(np.array(box), frame)
        assert np.isfinite(limited).all() and (limited[2:] >= 1).all()
        assert (limited[:2] >= [-64, -48]).all()
        assert (limited[:2] + limited[2:] <= [128, 96]).all()
