import numpy as np
import pytest

from okdhp_edge.artifacts.card import SkeletonSpec
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import (
    BUILTIN_SKELETONS,
    COCO17,
    LSP14,
    MPII16,
    Skeleton,
    canonicalize_names,
    skeleton_from_names,
)


@pytest.mark.parametrize("skeleton", BUILTIN_SKELETONS.values(), ids=lambda s: s.name)
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
        ("LKnee", "left_knee"),
        ("RShoulder", "right_shoulder"),
        ("knee_l", "left_knee"),
        ("kneeR", "right_knee"),
        ("l-knee", "left_knee"),
        ("knee.left", "left_knee"),
        ("KNEE_RIGHT", "right_knee"),
        ("leftAnkle", "left_ankle"),
        ("left", "left"),
        ("Lumbar", "lumbar"),
        ("Rib", "rib"),
        ("Left Foot Toe", "left_foot_toe"),
        ("finger_3", "finger_3"),
        ("手", "手"),
    ],
)
def test_spellings_found_in_the_wild(raw, name):
    assert canonicalize_names([raw]) == (name,)


@pytest.mark.parametrize(
    "names",
    [("LShoulder", "RShoulder", "nose"), ("knee_l", "knee_r", "nose"), ("kneeL", "kneeR", "nose"),
     ("left", "right", "middle"), ("Left Knee", "Right Knee", "Head"), ("l-knee", "r-knee", "x")],
)  # fmt: skip
def test_mirroring_exchanges_the_sides_of_any_usual_spelling(names):
    assert skeleton_from_names("mine", names).flip_index.tolist() == [1, 0, 2]


def test_letters_of_a_row_are_no_sides():
    names = ("arm_j", "arm_k", "arm_l", "arm_r")
    assert skeleton_from_names("mine", names).flip_index.tolist() == [0, 1, 2, 3]


def test_twins_may_be_told_beside_names_that_do_not_say_them():
    skeleton = skeleton_from_names("dog", ("paw1", "paw2", "tail", "left_ear"), (), [1, 0, 2, 3])
    assert skeleton.flip_index.tolist() == [1, 0, 2, 3]
    assert skeleton.pairs == (("paw1", "paw2"),)
    spec = SkeletonSpec.of(skeleton)
    again = SkeletonSpec.model_validate_json(spec.model_dump_json()).skeleton()
    assert again == skeleton


@pytest.mark.parametrize("index", [[1, 2, 0], [0, 1], [0, 0, 2], [3, 1, 2]])
def test_an_index_that_does_not_pair_is_refused(index):
    with pytest.raises(DataError, match="flip_idx of mine does not pair 3 joints"):
        skeleton_from_names("mine", ("a", "b", "c"), (), index)


def test_a_side_without_its_twin_is_an_error_and_not_silence():
    with pytest.raises(DataError, match="'left_shoulder' of skeleton 'mine' has no counterpart"):
        skeleton_from_names("mine", ("LShoulder", "nose"))


def test_a_known_set_is_recognised_by_its_names():
    assert skeleton_from_names("mine", LSP14.joints) is LSP14


def test_sets_are_matched_by_name_not_by_position():
    columns = LSP14.find_columns(MPII16)
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


def test_pairs_that_names_do_not_tell_can_be_given():
    plain = Skeleton("horse", ("nose", "hoof1", "hoof2"))
    assert plain.mirroring == "flipping swaps no joints"
    told = plain.with_twins([("hoof1", "hoof2")])
    assert told.flip_index.tolist() == [0, 2, 1]
    assert "hoof1 and hoof2" in told.mirroring
    with pytest.raises(DataError, match="twice"):
        plain.with_twins([("hoof1", "hoof2"), ("hoof1", "nose")])
    with pytest.raises(DataError, match="unknown joint"):
        plain.with_twins([("hoof1", "hoof3")])


def test_sigmas_are_those_of_cocos_own_evaluation():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO17.sigmas, Params("keypoints").kpt_oks_sigmas)
    assert LSP14.sigmas[[LSP14.index("neck"), LSP14.index("head_top")]].tolist() == [0.079] * 2


def test_given_pairs_leave_the_sets_own():
    own = Skeleton("horse", ("p0", "p1", "p2", "p3"), twins=(("p0", "p1"),))
    assert own.with_twins([("p2", "p3")]).flip_index.tolist() == [1, 0, 3, 2]
    assert own.with_twins([("p1", "p2")]).flip_index.tolist() == [0, 2, 1, 3]
