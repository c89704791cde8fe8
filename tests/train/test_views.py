"""Heatmaps turned from one view into another."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.crop import apply, compose, crop_from_frame, heatmap_from_crop, invert
from okdhp_edge.pose.heatmap import HeatmapKind, decode
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.train.gaussian_targets import gaussian_targets
from okdhp_edge.train.views import average_over_views, resample
from tests.helpers.fixed_net import made_batch

FLIP = torch.tensor(LSP14.flip_index.tolist())
BOX = np.array([30.0, 20.0, 60.0, 80.0])
HEATMAP = heatmap_from_crop(4)


def _placed(rotation=0.0, scale=1.0, *, mirror=False):
    crop = crop_from_frame(BOX, (96, 96), 1.25, rotation_deg=rotation, scale=scale, mirror=mirror)
    return compose(HEATMAP, crop)


def _drawn(placed, frame_xy):
    xy = torch.tensor(apply(placed, frame_xy)[None], dtype=torch.float32)
    return gaussian_targets(xy, (24, 24), 1.5)


@given(
    rotation=st.floats(-60, 60), scale=st.floats(0.7, 1.3), mirror=st.booleans(),
    x=st.floats(50, 70), y=st.floats(45, 75),
)  # fmt: skip
def test_a_peak_lands_where_the_joint_is_in_the_other_view(rotation, scale, mirror, x, y):
    source, target = _placed(rotation, scale, mirror=mirror), _placed()
    joint = np.array([[x, y]])
    back = torch.tensor(compose(source, invert(target))[None], dtype=torch.float32)
    seen = resample(_drawn(source, joint), back).numpy()
    found = decode(seen, HeatmapKind.GAUSSIAN, 1.5).xy_BK2[0]
    assert np.abs(found - apply(target, joint)).max() < 0.35


def test_the_same_view_is_left_as_it_is():
    maps = torch.rand(2, 14, 24, 24)
    same = torch.eye(3)[:2].repeat(2, 1, 1)
    torch.testing.assert_close(resample(maps, same), maps)


def _two_views(left, right):
    batch = made_batch(2)
    placed = np.stack([left, right]).astype(np.float32)
    return batch._replace(heatmap_from_frame=torch.tensor(placed), weight=torch.ones(2, 14))


def test_views_that_agree_teach_what_each_said():
    rng = np.random.default_rng(0)
    joints = rng.uniform((45, 40), (75, 80), (14, 2))
    left, right = _placed(-20, 0.9), _placed(25, 1.1, mirror=True)
    mirrored = joints[LSP14.flip_index]
    maps = torch.cat([_drawn(left, joints), _drawn(right, mirrored)])
    batch = _two_views(left, right)._replace(mirrored=torch.tensor([False, True]))
    mean = average_over_views(maps, batch, 2, FLIP).numpy()
    for view, (placed, truth) in enumerate(((left, joints), (right, mirrored))):
        found = decode(mean[view : view + 1], HeatmapKind.GAUSSIAN, 1.5).xy_BK2[0]
        assert np.abs(found - apply(placed, truth)).max() < 0.4


def test_a_view_that_does_not_show_a_joint_is_not_asked():
    maps = torch.rand(2, 14, 24, 24)
    batch = _two_views(_placed(), _placed())
    weight = torch.ones(2, 14)
    weight[1, 3] = 0
    weight[:, 5] = 0
    mean = average_over_views(maps, batch._replace(weight=weight), 2, FLIP)
    torch.testing.assert_close(mean[0, 0], maps[:, 0].mean(0))
    torch.testing.assert_close(mean[0, 3], maps[0, 3])
    torch.testing.assert_close(mean[1, 3], maps[0, 3])
    torch.testing.assert_close(mean[:, 5], maps[:, 5])


@pytest.mark.parametrize("persons", [1, 3])
def test_persons_do_not_mix(persons):
    maps = torch.rand(2 * persons, 14, 24, 24)
    batch = made_batch(2 * persons)
    mean = average_over_views(maps, batch._replace(weight=torch.ones(2 * persons, 14)), 2, FLIP)
    torch.testing.assert_close(mean[:persons], (maps[:persons] + maps[persons:]) / 2)


def test_in_half_precision_the_views_lie_as_in_single():
    """Transforms to a crop far from the image's corner cancel: eight bits would not do."""
    left, right = _placed(-20, 0.9), _placed(25, 1.1)
    far = np.array([[1, 0, 3000.0], [0, 1, 2000.0], [0, 0, 1]])
    placed = [np.vstack([p, [0, 0, 1]]) @ np.linalg.inv(far) for p in (left, right)]
    batch = _two_views(*(p[:2] for p in placed))
    maps = torch.rand(2, 14, 24, 24)
    single = average_over_views(maps, batch, 2, FLIP)
    with torch.autocast("cpu", torch.bfloat16):
        half = average_over_views(maps, batch, 2, FLIP)
    torch.testing.assert_close(half, single)
