import numpy as np
import pytest
from scipy.io import loadmat

from okdhp_edge.data.mpii import compute_head_sizes
from okdhp_edge.pose.metrics import auroc, oks, pck, torso_diagonals
from okdhp_edge.pose.skeleton import COCO17, LSP14


def _people(count: int = 6) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 100, (count, len(LSP14), 2))


def test_pck_counts_each_labelled_joint_once_by_hand():
    truth = np.zeros((2, 3, 2))
    predicted = np.array([[[0, 0], [3, 0], [9, 0]], [[0, 2.0], [0, 0], [0, 0]]])
    labelled = np.array([[True, True, True], [True, False, True]])
    score = pck(predicted, truth, labelled, np.array([10.0, 10.0]), 0.2)
    # errors 0, 3, 9 | 2, -, 0 against 2: right are 0 | 2, 0
    assert score.value == pytest.approx(100 * 3 / 5)
    np.testing.assert_allclose(score.per_joint, [100, 0, 50])
    assert score.persons == 2
    assert score.low <= score.value <= score.high


def test_persons_without_a_norm_are_left_out():
    truth = np.zeros((2, 1, 2))
    predicted = truth + np.array([[[0.0, 0]], [[99, 0]]])
    score = pck(predicted, truth, np.ones((2, 1), bool), np.array([10.0, np.nan]), 0.2)
    assert score.value == 100
    assert score.persons == 1


def test_unlabelled_ends_never_enter_the_torso():
    xy, labelled = _people(), np.ones((6, len(LSP14)), bool)
    left_shoulder, right_hip = LSP14.index("left_shoulder"), LSP14.index("right_hip")
    right_shoulder, left_hip = LSP14.index("right_shoulder"), LSP14.index("left_hip")
    xy[:, left_shoulder] = 1e6  # rubbish
    labelled[:, left_shoulder] = False
    expected = np.linalg.norm(xy[:, right_shoulder] - xy[:, left_hip], axis=1)
    np.testing.assert_allclose(torso_diagonals(xy, labelled, LSP14), expected)
    labelled[0, left_hip] = False
    assert np.isnan(torso_diagonals(xy, labelled, LSP14)[0])
    labelled[:, [left_shoulder, right_hip, right_shoulder, left_hip]] = True
    xy[:, left_shoulder] = xy[:, right_hip] + [300, 0]
    np.testing.assert_allclose(torso_diagonals(xy, labelled, LSP14), 300)


def test_oks_is_one_for_the_truth_and_follows_its_formula():
    truth = np.zeros((1, 17, 2))
    labelled = np.zeros((1, 17), bool)
    labelled[0, :2] = True
    predicted = truth.copy()
    assert oks(predicted, truth, labelled, np.array([400.0]), COCO17.sigmas).value == 100
    predicted[0, 0] = [3.0, 4.0]
    similarity = np.exp(-25 / (2 * 400 * (2 * 0.026) ** 2))
    score = oks(predicted, truth, labelled, np.array([400.0]), COCO17.sigmas)
    assert score.value == pytest.approx(50 * (1 + similarity))


def test_pckh_reproduces_a_published_result_on_real_predictions(real_data):
    mat = loadmat(str(real_data / "formats/annotations_only/mpii_detections_our_format.mat"))
    truth, predicted = (mat[k].transpose(2, 0, 1) for k in ("pos_gt_src", "pos_pred_src"))
    labelled = mat["jnt_missing"].T == 0
    labelled[:, [6, 7]] = False  # pelvis and thorax do not count
    norm = compute_head_sizes(mat["headboxes_src"].transpose(2, 0, 1))
    score = pck(predicted, truth, labelled, norm, 0.5)
    assert score.value == pytest.approx(82.34, abs=0.005)
    published = [65.20, 73.44, 82.00, 81.86, 73.28, 65.69]
    np.testing.assert_allclose(score.per_joint[:6], published, atol=0.005)


def test_oks_is_the_mean_over_persons_and_not_over_joints():
    """One of two joints is right, the next person's only one too: (1/2 + 1) / 2, not 2/3."""
    truth = np.zeros((2, 17, 2))
    labelled = np.zeros((2, 17), bool)
    labelled[0, :2] = labelled[1, 0] = True
    predicted = truth.copy()
    predicted[0, 1] = 1e4
    score = oks(predicted, truth, labelled, np.array([400.0, 400.0]), COCO17.sigmas)
    assert (score.value, score.persons) == (pytest.approx(75), 2)


def test_the_interval_draws_a_persons_joints_together():
    """All joints are right, one of some persons and many of others: every draw has 100."""
    labelled = np.arange(5)[None] <= np.arange(5)[:, None]
    truth = np.zeros((5, 5, 2))
    score = pck(truth, truth, labelled, np.ones(5), 0.2)
    assert (score.value, score.low, score.high) == (100, 100, 100)


def test_the_interval_holds_95_percent():
    """Half of 400 persons: 2.5 points of deviation, of which 1.96 lie on either side."""
    truth = np.zeros((400, 1, 2))
    predicted = truth + 9.0 * (np.arange(400) % 2)[:, None, None]
    score = pck(predicted, truth, np.ones((400, 1), bool), np.ones(400), 0.2)
    assert score.value == 50
    assert (score.low, score.high) == pytest.approx((50 - 4.9, 50 + 4.9), abs=0.5)


@pytest.mark.parametrize(
    ("positive", "negative", "area"),
    [([3, 4], [1, 2], 1), ([1, 2], [3, 4], 0), ([1, 3], [2, 0], 0.75), ([1, 1], [1, 1], 0.5),
     ([2, 1], [1, 0], 0.875)],
)  # fmt: skip
def test_auroc_is_the_share_of_pairs_in_order_ties_by_half(positive, negative, area):
    assert auroc(np.array(positive), np.array(negative)) == pytest.approx(area)


def test_auroc_of_nobody_is_not_a_number():
    assert np.isnan(auroc(np.array([]), np.array([1.0])))
    assert np.isnan(auroc(np.array([1.0]), np.array([])))
