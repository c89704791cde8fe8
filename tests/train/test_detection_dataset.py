"""Boxes of a training example as a row of a batch."""

import numpy as np

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import NO_AUGMENTATION
from okdhp_edge.data.detection import DetectionSample
from okdhp_edge.train.detection_dataset import MAX_BOXES, DetectionDataset

SIDE = 320
SPEC = InputSpec(width=SIDE, height=SIDE, mean=(30,) * 3, std=(128,) * 3, box_padding=1.0)


class _Blank:
    def read(self):
        return np.zeros((SIDE, SIDE, 3), np.uint8)


def _get_boxes(persons):
    sample = DetectionSample(
        id="a", image=_Blank(), box=np.array([0, 0, SIDE, SIDE], float),
        xy=np.zeros((1, 2), np.float32), labelled=np.array([True]), persons=persons,
    )  # fmt: skip
    dataset = DetectionDataset([sample], SPEC, 4, NO_AUGMENTATION, 0)
    ((_, boxes, kind, _),) = dataset[(0, 0)]
    return boxes, kind


def test_of_a_crowd_the_smallest_persons_are_an_ignored_region_and_not_background():
    places = np.array([(x, y) for y in range(10, 170, 16) for x in range(10, 300, 16)], float)
    sides = np.full((len(places), 2), 12.0)
    sides[: MAX_BOXES - 1] = 14.0
    boxes, kind = _get_boxes(np.hstack([places, sides]))
    assert (kind > 0).sum() == MAX_BOXES - 1 and (kind < 0).sum() == 1
    left, top, right, bottom = boxes[kind < 0][0]
    centers = (places[MAX_BOXES - 1 :] + 6) / 4
    assert (centers > [left, top]).all() and (centers < [right, bottom]).all()


def test_as_many_as_fit_are_all_persons():
    places = np.array([(x, y) for y in range(10, 106, 12) for x in range(10, 154, 12)], float)
    boxes, kind = _get_boxes(np.hstack([places[:MAX_BOXES], np.full((MAX_BOXES, 2), 10.0)]))
    assert (kind > 0).all() and len(boxes) == MAX_BOXES


def test_the_largest_come_first_since_they_own_a_cell_that_two_centers_share():
    boxes, _ = _get_boxes(np.array([[100, 100, 20, 20], [60, 60, 100, 100.0]]))
    assert boxes[0, 2] - boxes[0, 0] > boxes[1, 2] - boxes[1, 0] > 0
