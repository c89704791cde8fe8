from dataclasses import replace

import numpy as np
import pytest

from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14


def test_a_pose_names_its_joints():
    xy = np.arange(28, dtype=np.float32).reshape(14, 2)
    record = Pose(LSP14, xy, np.full(14, 0.5, np.float32)).to_dict()
    assert record["joints"]["right_knee"] == [2.0, 3.0, 0.5]
    assert record["score"] == 0.5


def test_a_pose_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected xy \(14, 2\)"):
        Pose(LSP14, np.zeros((13, 2), np.float32), np.zeros(14, np.float32))


def test_the_size_of_a_person_is_the_longer_side_of_the_joints():
    xy = np.zeros((14, 2), np.float32)
    xy[3], xy[7] = (10, 40), (-5, 2)
    assert Pose(LSP14, xy, np.ones(14, np.float32)).size == 40


def test_poses_are_ranked_by_their_joints_and_by_the_detector():
    scores = np.array([0.8, 0.4, *[0.1] * 12], np.float32)  # hidden joints do not count
    pose = Pose(LSP14, np.zeros((14, 2), np.float32), scores)
    assert pose.confidence == pytest.approx((0.8**2 + 0.4**2) / 1.2)
    found = replace(pose, box=np.array([0.0, 0, 5, 5]), box_score=0.5)
    assert found.confidence == pytest.approx(pose.confidence / 2)
    assert found.to_dict()["score"] == pytest.approx(found.confidence, abs=1e-4)
    assert Pose(LSP14, pose.xy, np.zeros(14, np.float32)).confidence == 0
