import numpy as np

from okdhp_edge.pose.draw import draw_skeleton, get_colour
from okdhp_edge.pose.skeleton import LSP14


def test_only_shown_joints_are_drawn_each_side_in_its_colour():
    xy = np.stack([np.arange(14) * 12.0 + 10, np.full(14, 40.0)], axis=1)
    image = np.zeros((80, 200, 3), np.uint8)
    shown = np.zeros(14, bool)
    shown[[LSP14.index("left_knee"), LSP14.index("right_wrist")]] = True
    draw_skeleton(image, LSP14, xy, shown)
    for joint in ("left_knee", "right_wrist"):
        x, y = xy[LSP14.index(joint)].astype(int)
        assert tuple(image[y, x]) == get_colour(joint)
    assert not image[40, int(xy[LSP14.index("neck")][0])].any()


def test_joints_far_outside_or_not_a_number_do_no_harm():
    xy = np.full((14, 2), 1e12)
    xy[3] = np.nan
    draw_skeleton(np.zeros((20, 20, 3), np.uint8), LSP14, xy, np.ones(14, bool))
