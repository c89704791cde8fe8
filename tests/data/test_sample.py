import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import Skeleton


def test_joints_are_matched_by_name_and_what_is_missing_is_unlabelled():
    poses = load("synthetic:20", "train")
    names = poses.skeleton.joints
    place = [names.index("head_top"), names.index("neck")]
    other = Skeleton("other", ("left_ear", "right_ear", "head_top", "neck"), ())
    seen = poses.with_skeleton(other)
    assert seen.skeleton is other and len(seen) == len(poses)
    for mine, theirs in zip(seen.samples, poses.samples, strict=True):
        np.testing.assert_array_equal(mine.xy[[2, 3]], theirs.xy[place])
        assert mine.labelled.tolist() == [False, False, *theirs.labelled[place]]


def test_the_same_joints_are_left_as_they_are():
    poses = load("synthetic:20", "train")
    assert poses.with_skeleton(poses.skeleton) is poses


def test_joints_without_a_name_in_common_are_refused():
    with pytest.raises(DataError, match="are not those of synthetic"):
        load("synthetic:20", "train").with_skeleton(Skeleton("hand", ("thumb", "palm"), ()))
