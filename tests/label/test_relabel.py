import numpy as np

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.load import load
from okdhp_edge.label.relabel import find_label_errors, predict_with_flip, relabel
from okdhp_edge.pose.skeleton import LSP14, Skeleton
from tests.helpers.tiny_models import DATA

SIDE = 100.0


def _persons(count=6, seed=0):
    """Joints far apart, the model right to within two pixels, either way it looks."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([10, 90], np.linspace(5, 95, 7)), -1).reshape(-1, 2)
    truth = np.stack([rng.permutation(grid) for _ in range(count)])
    straight, mirrored = (truth + rng.normal(0, 1, truth.shape) for _ in range(2))
    return truth, straight, mirrored, np.ones(truth.shape[:2], bool), np.full(count, SIDE)


def _doubted(truth, straight, mirrored, labelled, side):
    return find_label_errors(straight, mirrored, truth, labelled, side, LSP14)


def test_right_labels_are_not_doubted():
    found = _doubted(*_persons())
    assert not found.swapped.any() and not found.wrong.any()


def test_exchanged_sides_are_found_and_only_those():
    truth, *rest = _persons()
    truth[2] = truth[2][LSP14.flip_index]
    found = _doubted(truth, *rest)
    assert found.swapped.tolist() == [False, False, True, False, False, False]
    assert not found.wrong.any()


def test_exchanged_sides_of_a_small_skeleton_are_found():
    paw = Skeleton("paw", ("left_tip", "right_tip", "left_root", "right_root"))
    truth = np.array([[[0, 0], [90, 0], [0, 90], [90, 90]]], float)
    found = find_label_errors(
        truth, truth, truth[:, paw.flip_index], np.ones((1, 4), bool), np.array([SIDE]), paw
    )
    assert found.swapped.tolist() == [True]


def test_a_joint_that_is_somewhere_else_is_found_under_its_right_name():
    truth, *rest = _persons()
    wrist, twin = LSP14.index("left_wrist"), LSP14.index("right_wrist")
    truth[1, wrist] += [0, 60]
    truth[4] = truth[4][LSP14.flip_index]
    truth[4, twin] += [0, 60]  # what is called right is the left one
    found = _doubted(truth, *rest)
    assert np.argwhere(found.wrong).tolist() == [[1, wrist], [4, wrist]]
    assert found.swapped.tolist() == [False, False, False, False, True, False]


def test_a_model_that_disagrees_with_itself_doubts_nobody():
    truth, straight, mirrored, labelled, side = _persons()
    truth[0] = truth[0][LSP14.flip_index]
    mirrored = mirrored + 40
    found = _doubted(truth, straight, mirrored, labelled, side)
    assert not found.swapped.any() and not found.wrong.any()


def test_a_person_seen_altogether_otherwise_is_left_alone():
    truth, straight, mirrored, labelled, side = _persons()
    rng = np.random.default_rng(3)
    truth[3] = rng.permutation(truth[3])
    found = _doubted(truth, straight, mirrored, labelled, side)
    assert not found.swapped[3] and not found.wrong[3].any()


def test_unlabelled_joints_are_nobodys_fault():
    truth, straight, mirrored, labelled, side = _persons()
    labelled[:, 3] = False
    truth[:, 3] = -5000
    found = _doubted(truth, straight, mirrored, labelled, side)
    assert not found.wrong.any() and not found.swapped.any()


def test_mirrored_heatmaps_lie_where_the_straight_ones_do():
    """Heatmaps that are the picture: one channel for each joint, of its own brightness."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)

    def predict(images_BHWC):
        gains = np.array([1 + LSP14.flip_index.tolist().index(k) for k in range(14)])
        grey = images_BHWC.mean(axis=-1)[:, None]
        return {"model": (grey * gains[:, None, None]).astype(np.float32)}

    found = predict_with_flip(predict, LSP14)(images)
    twins = found["straight"][:, LSP14.flip_index]
    np.testing.assert_allclose(found["mirrored"], twins)


def test_a_set_is_looked_through(exported):
    poses = load(DATA, "val")
    with open_backend(
        "onnxruntime", BackendConfig(exported, read_card(exported), "fp32")
    ) as backend:
        done = []
        found = relabel(poses, backend, done.append)
    assert done[-1] == len(poses)
    assert found.data == "synthetic, val"
    assert set(found.swapped) <= {s.id for s in poses.samples}
