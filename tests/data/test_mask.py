"""Silhouettes from outlines, from the renderer and from joints."""

import numpy as np
import pytest

from okdhp_edge.data.coco import load_coco
from okdhp_edge.data.load import load
from okdhp_edge.data.mask import HullMask, PolygonMask
from okdhp_edge.pose.crop import apply, crop_from_frame
from tests.helpers.made_data import coco_file

SQUARE = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
SAME = np.eye(3)[:2]


def test_outlines_are_filled_where_they_lie():
    mask = PolygonMask((SQUARE, SQUARE + 40)).warped(SAME, (80, 90))
    assert mask.shape == (90, 80)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[20, 20] == mask[60, 60] == 255
    assert mask[20, 60] == 0
    assert (mask > 0).sum() == pytest.approx(2 * 21**2, rel=0.05)


def test_they_follow_the_crop():
    to_crop = crop_from_frame(np.array([10.0, 10, 20, 20]), (64, 64), 1.0, rotation_deg=45)
    mask = PolygonMask((SQUARE,)).warped(to_crop, (64, 64))
    inside = apply(to_crop, np.array([[20.0, 20.0]]))[0].round().astype(int)
    assert mask[inside[1], inside[0]] == 255
    # The turned square covers the crop but for its four corners.
    assert (mask > 0).mean() == pytest.approx(0.83, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_hull_covers_its_joints(count):
    joints = np.random.default_rng(count).uniform(20, 60, (count, 2)).astype(np.float32)
    assert not HullMask(joints[:0]).warped(SAME, (80, 80)).any()  # a box without anybody
    mask = HullMask(joints).warped(SAME, (80, 80))
    columns, rows = joints.round().astype(int).T
    assert (mask[rows, columns] == 255).all()


def test_the_renderer_knows_whom_it_drew():
    sample = load("synthetic:12", "train").samples[3]
    mask = sample.mask.warped(SAME, (192, 192))
    columns, rows = sample.xy.round().astype(int).T
    assert (mask[rows, columns] == 255).mean() > 0.9
    assert 0.03 < (mask > 0).mean() < 0.5


def test_coco_outlines_are_read_and_run_lengths_are_not(tmp_path):
    polygon = coco_file(tmp_path / "a", segmentation=[[10, 10, 50, 10, 50, 70], [1, 1, 2, 2]])
    first, second = load_coco(polygon, "all").samples
    assert isinstance(first.outline, PolygonMask) and len(first.outline.polygons) == 1
    assert isinstance(second.mask, HullMask)
    counted = coco_file(tmp_path / "b", segmentation={"counts": "abc", "size": [90, 120]})
    assert load_coco(counted, "all").samples[0].outline is None


def test_real_outlines_hold_most_joints(real_data):
    held = []
    for sample in load(f"coco:{real_data / 'coco_mini'}", "all").samples:
        if sample.outline is None:
            continue
        size = sample.image.read().shape[1::-1]
        mask = sample.mask.warped(SAME, size)
        xy = np.clip(sample.xy[sample.labelled], 0, np.array(size) - 1)
        columns, rows = xy.round().astype(int).T
        held.append((mask[rows, columns] > 0).mean())
    assert len(held) > 100
    assert np.mean(held) > 0.8
