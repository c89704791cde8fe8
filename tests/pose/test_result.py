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
