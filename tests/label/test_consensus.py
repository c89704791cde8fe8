import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.data.coco_annotation import make_category
from okdhp_edge.inference.external_pose_model import PosePrediction
from okdhp_edge.label.consensus import (
    ConsensusRules,
    clip_to_image,
    merge_predictions,
    merge_skeletons,
)
from okdhp_edge.pose.skeleton import COCO17, LSP14, Skeleton

PAIR = Skeleton("pair", ("a", "b", "c"))
SIDE = 100.0


def look(*points, score=0.9):
    scores = np.full(len(points), score) if np.isscalar(score) else np.array(score, float)
    return PosePrediction(np.array(points, float), scores)


def agreed(*looks, rules=None):
    return merge_predictions([(PAIR, looks)], PAIR, SIDE, rules or ConsensusRules())


def test_looks_that_agree_give_their_mean():
    found = agreed(look((10, 10), (50, 50), (90, 90)), look((12, 10), (50, 52), (90, 90)))
    assert found.labelled.all() and not found.absent.any()
    assert np.allclose(found.xy, [[11, 10], [50, 51], [90, 90]])


def test_what_looks_disagree_on_is_neither_labelled_nor_absent():
    found = agreed(look((10, 10), (50, 50), (90, 90)), look((30, 10), (50, 50), (90, 90)))
    assert found.labelled.tolist() == [False, True, True]
    assert not found.absent.any()


def test_a_joint_that_no_look_finds_is_absent():
    scores = (0.9, 0.05, 0.2)
    found = agreed(look((1, 1), (2, 2), (3, 3), score=scores), look((1, 1), (2, 2), (3, 3),
                                                                     score=scores))  # fmt: skip
    assert found.labelled.tolist() == [True, False, False]
    assert found.absent.tolist() == [False, True, False]


def test_one_look_that_finds_it_is_enough_not_to_call_it_absent():
    found = agreed(look((1, 1), (2, 2), (3, 3), score=(0.9, 0.05, 0.9)),
                   look((1, 1), (2, 2), (3, 3), score=(0.9, 0.5, 0.9)))  # fmt: skip
    assert not found.absent.any() and not found.labelled[1]


@pytest.mark.parametrize("threshold", [0.02, 0.05, 0.2])
def test_how_far_apart_is_the_callers_choice(threshold):
    found = agreed(look((10, 10), (0, 0), (0, 0)), look((18, 10), (0, 0), (0, 0)),
                   rules=ConsensusRules(max_spread=threshold))  # fmt: skip
    assert found.labelled[0] == (threshold >= 0.04)


def test_of_many_views_the_median_counts_and_an_outlier_does_not():
    near = [look((10, 10), (50, 50), (90, 90)) for _ in range(5)]
    found = agreed(*near, look((90, 90), (50, 50), (90, 90)))
    assert found.labelled.all() and np.allclose(found.xy[0], [10, 10])
    assert found.spread.tolist() == [0, 0, 0]


def test_the_spread_is_the_views_distance_from_their_label_and_the_teachers_from_each_other():
    views = [look((10, 10), (50, 50), (90, 90)), look((14, 10), (50, 50), (90, 90))]
    assert np.allclose(agreed(*views).spread, [0.02, 0, 0])
    other = [look((18, 10), (50, 50), (90, 90))]
    both = merge_predictions([(PAIR, views), (PAIR, other)], PAIR, SIDE, ConsensusRules())
    assert np.allclose(both.xy[0], [15, 10])
    assert np.allclose(both.spread, [0.05, 0, 0])  # 3 from the mean, and its own 2
    assert both.labelled.tolist() == [False, True, True]


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=3, max_size=3))
def test_a_label_lies_within_its_picture(points):
    found = clip_to_image(agreed(look(*points), look(*points)), (100, 80))
    inside = np.array([0 <= x <= 99 and 0 <= y <= 79 for x, y in points])
    assert (found.labelled == inside).all()
    assert (found.absent == ~inside).all()


def test_teachers_of_other_joints_are_matched_by_name():
    both = merge_skeletons([COCO17, LSP14])
    assert both.joints[:17] == COCO17.joints and set(both.joints[17:]) == {"neck", "head_top"}
    coco = PosePrediction(np.arange(34, dtype=float).reshape(17, 2), np.ones(17))
    elsewhere = np.array([7.0, 7.0])
    xy = [coco.xy[COCO17.index(j)] if j in COCO17.joints else elsewhere for j in LSP14.joints]
    lsp = PosePrediction(np.stack(xy), np.ones(14))
    found = merge_predictions([(COCO17, [coco]), (LSP14, [lsp])], both, SIDE, ConsensusRules())
    assert found.labelled.all()
    assert np.allclose(found.xy[:17], coco.xy) and np.allclose(found.xy[17:], 7)


def test_union_of_the_same_is_the_same():
    assert merge_skeletons([COCO17, COCO17]) is COCO17


def test_twins_that_names_do_not_tell_stay_twins():
    side = Skeleton("side", ("nose", "near", "far"), twins=(("near", "far"),))
    both = merge_skeletons([Skeleton("one", ("nose",)), side])
    assert both.flip_index.tolist() == [0, 2, 1]
    assert make_category(both)["flip_idx"] == [0, 2, 1]
