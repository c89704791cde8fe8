import numpy as np
import pytest

from okdhp_edge.inference.refine_boxes import correct_box, estimate_twice
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14

BOX = np.array([0.0, 0.0, 100.0, 100.0])
XY = np.linspace([20, 40], [60, 80], 14).astype(np.float32)


class Estimator:
    """Gives joints with these scores in every box, and remembers the boxes."""

    def __init__(self, *scores):
        self.scores, self.asked = list(scores), []

    def estimate_many(self, frame, boxes):
        self.asked.append([box.tolist() for box in boxes])
        return [Pose(LSP14, XY, np.full(14, self.scores.pop(0), np.float32)) for _ in boxes]


def test_a_box_goes_halfway_to_the_joints_and_their_margin():
    box = correct_box(BOX, Pose(LSP14, XY, np.ones(14, np.float32)))
    np.testing.assert_allclose(box, [8, 18, 74, 74])


@pytest.mark.parametrize(("visible", "corrected"), [(6, False), (7, True)])
def test_few_joints_do_not_correct_a_box(visible, corrected):
    scores = np.array([1.0] * visible + [0.0] * (14 - visible), np.float32)
    assert (correct_box(BOX, Pose(LSP14, XY, scores)) is not None) == corrected


def test_only_persons_whose_joints_are_seen_are_estimated_again():
    estimator = Estimator(0.9, 0.1, 0.8, 0.7, 0.6)
    poses = estimate_twice(estimator, np.zeros((9, 9, 3), np.uint8), [BOX, BOX, BOX + 10])
    assert [round(float(pose.score[0]), 1) for pose in poses] == [0.7, 0.1, 0.6]
    assert estimator.asked[1] == [[8, 18, 74, 74], [13, 23, 79, 79]]
