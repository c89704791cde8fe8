import numpy as np

from okdhp_edge.inference.tracking.smoothing import Smoother
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14


def _pose(who, offset, noise=0.0, seed=0):
    xy = np.random.default_rng(seed).normal(0, 40, (14, 2)) + offset
    xy += np.random.default_rng(seed + 1000).normal(0, noise, (14, 2))
    return Pose(LSP14, xy.astype(np.float32), np.ones(14, np.float32), who)


def test_everybody_is_filtered_apart():
    smooth = Smoother()
    for frame in range(10):
        a, b = smooth([_pose(1, 100), _pose(2, 400)], frame / 30)
    np.testing.assert_allclose(a.xy, _pose(1, 100).xy, atol=1e-3)
    np.testing.assert_allclose(b.xy, _pose(2, 400).xy, atol=1e-3)
    assert (a.id, b.id) == (1, 2)


def test_the_order_of_people_does_not_matter_and_who_left_starts_afresh():
    smooth = Smoother()
    smooth([_pose(1, 100), _pose(2, 400)], 0.0)
    b, a = smooth([_pose(2, 400), _pose(1, 100)], 1 / 30)
    assert abs(a.xy.mean() - 100) < 30 and abs(b.xy.mean() - 400) < 30
    smooth([_pose(2, 400)], 2 / 30)
    back = smooth([_pose(1, 300), _pose(2, 400)], 3 / 30)[0]
    np.testing.assert_allclose(back.xy, _pose(1, 300).xy)
