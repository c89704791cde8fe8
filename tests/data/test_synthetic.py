import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.data.synthetic import SyntheticScene


def test_the_same_index_draws_the_same_picture():
    a, b = (load("synthetic:8", "train").samples[5] for _ in range(2))
    np.testing.assert_array_equal(a.image.read(), b.image.read())
    np.testing.assert_array_equal(a.xy, b.xy)


def test_splits_share_no_picture():
    ids = [
        {s.id for s in load("synthetic:64", split).samples} for split in ("train", "val", "test")
    ]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])


def test_people_are_varied_and_mostly_inside_the_picture():
    samples = load("synthetic:128", "train").samples
    xy = np.stack([s.xy for s in samples])
    assert ((xy > -5) & (xy < 197)).mean() > 0.99
    sizes = np.array([s.box[2:].max() for s in samples])
    assert sizes.std() > 15
    torso = xy[:, 12] - (xy[:, 2] + xy[:, 3]) / 2
    tilt = np.degrees(np.arctan2(np.abs(torso[:, 0]), -torso[:, 1]))
    assert 0.02 < (tilt > 30).mean() < 0.4


def test_the_drawing_is_where_the_labels_say():
    """Between two moments the picture changes where the joints were."""
    scene = SyntheticScene((320, 240), seed=3)
    (a, xy_a), (b, _) = scene.frame(0.0), scene.frame(1.4)
    moved = (a != b).any(axis=2)
    on_joints = [moved[int(y), int(x)] for x, y in xy_a if 0 <= x < 320 and 0 <= y < 240]
    assert np.mean(on_joints) > 0.5


def test_a_scene_moves_smoothly():
    scene = SyntheticScene((320, 240), seed=1)
    joints = np.stack([scene.frame(t / 30)[1] for t in range(90)])
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    assert 0 < steps.max() < 25


@pytest.mark.parametrize("split", ["train", "val"])
def test_counts(split):
    assert len(load("synthetic:80", split)) == {"train": 80, "val": 10}[split]
