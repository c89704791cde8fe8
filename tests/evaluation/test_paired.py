import numpy as np
import pytest

from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.evaluation.paired import Hits, compute_gain, count_hits
from okdhp_edge.pose.skeleton import LSP14


def test_the_gain_is_mine_less_theirs_over_the_joints_that_count():
    counted = np.array([4.0, 1.0])
    gain = compute_gain(Hits(np.array([3.0, 1]), counted), Hits(np.array([1.0, 1]), counted))
    assert gain.value == pytest.approx(100 * 2 / 5)
    # A draw has the first person alone, both or the second alone: 2/4, 2/5 or nothing.
    assert (gain.low, gain.high) == (0, pytest.approx(50))
    all_of_them = compute_gain(Hits(counted, counted), Hits(0 * counted, counted))
    assert tuple(all_of_them) == pytest.approx((100, 100, 100))


def test_hits_are_within_a_fifth_of_the_torso():
    """A torso of 50 pixels allows 10; three of the 14 joints are not labelled."""
    xy, labelled = np.zeros((14, 2), np.float32), np.ones(14, bool)
    for joint, place in {"left_shoulder": (0, 0), "right_shoulder": (30, 0), "left_hip": (0, 40),
                         "right_hip": (30, 40)}.items():  # fmt: skip
        xy[LSP14.index(joint)] = place
    labelled[[LSP14.index(joint) for joint in ("right_ankle", "right_knee", "neck")]] = False
    sample = Sample("a.jpg#0", None, np.array([0.0, 0, 30, 40]), xy, labelled)
    found = xy[None] + np.zeros((1, 14, 2))
    found[0, LSP14.index("left_wrist"), 0] += 9.9
    found[0, LSP14.index("left_knee"), 0] += 10.1
    hits = count_hits(PoseDataset("lspet:x", "val", LSP14, [sample], "pck@0.2"), found)
    assert (hits.right.tolist(), hits.counted.tolist()) == ([10], [11])
    assert hits.pck == pytest.approx(100 * 10 / 11)
