import numpy as np
import pytest

from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import (
    KNOWN,
    LSP14,
    MPII16,
    Skeleton,
    canonical_name,
    skeleton_from_names,
)


@pytest.mark.parametrize("skeleton", KNOWN.values(), ids=lambda s: s.name)
def test_flipping_twice_is_identity_and_swaps_sides(skeleton):
    flip = skeleton.flip_index
    np.testing.assert_array_equal(flip[flip], np.arange(len(skeleton)))
    for joint, twin in zip(skeleton.joints, flip, strict=True):
        if joint.startswith("left_"):
            assert skeleton.joints[twin] == joint.replace("left_", "right_")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Left Elbow", "left_elbow"),
        ("r_knee", "right_knee"),
        ("upper-neck", "upper_neck"),
        ("LeftWrist", "left_wrist"),
        ("nose", "nose"),
    ],
)
def test_spellings_found_in_the_wild(raw, name):
    assert canonical_name(raw) == name


def test_a_known_set_is_recognised_by_its_names():
    assert skeleton_from_names("mine", LSP14.joints) is LSP14


def test_sets_are_matched_by_name_not_by_position():
    columns = LSP14.columns_in(MPII16)
    for joint, column in zip(LSP14.joints, columns, strict=True):
        assert column == -1 or MPII16.joints[column] == joint
    assert columns[LSP14.joints.index("neck")] == -1
    assert (columns >= 0).sum() == 13


@pytest.mark.parametrize(
    ("joints", "limbs"),
    [((), ()), (("a", "a"), ()), (("left_a",), ()), (("a", "b"), (("a", "c"),))],
    ids=["none", "repeated", "one-sided", "dangling limb"],
)
def test_wrong_skeletons_are_refused(joints, limbs):
    with pytest.raises(DataError):
        Skeleton("wrong", joints, limbs)
