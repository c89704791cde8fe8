import math

import pytest
import torch

from okdhp_edge.train.detection_dataset import DetectionBatch
from okdhp_edge.train.detection_loss import count_persons, detection_loss

SIZE = 16


def _batch(boxes, kinds):
    padded = torch.zeros(1, 8, 4)
    kind = torch.zeros(1, 8)
    for place, (box, value) in enumerate(zip(boxes, kinds, strict=True)):
        padded[0, place] = torch.tensor(box, dtype=torch.float32)
        kind[0, place] = value
    image = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    return DetectionBatch(image, padded, kind, torch.ones(1, 1))


def _maps(box=None, certain=12.0):
    """What a network that finds just this box returns, every cell of it saying where it lies."""
    maps = torch.zeros(1, 5, SIZE, SIZE)
    maps[:, 0] = -certain
    if box is not None:
        left, top, right, bottom = box
        x, y = (left + right) / 2, (top + bottom) / 2
        columns, rows = torch.arange(SIZE), torch.arange(SIZE)[:, None]
        maps[0, 0, round(y), round(x)] = certain
        maps[0, 1] = x - columns
        maps[0, 2] = y - rows
        maps[0, 3:5] = torch.tensor([math.log(right - left), math.log(bottom - top)])[:, None, None]
    return maps


def _loss(maps, batch):
    return detection_loss(
        maps, batch, count_persons(batch).clamp_min(1.0), box_weight=5.0, center_size=0.54
    )


BOX = (3.0, 4.0, 9.5, 12.5)


def test_a_right_answer_costs_nothing_and_a_wrong_one_does():
    batch = _batch([BOX], [1])
    assert _loss(_maps(BOX), batch) == pytest.approx(0, abs=1e-2)
    assert _loss(_maps((5.0, 4.0, 11.5, 12.5)), batch) > 1
    assert _loss(_maps(), batch) > 5


def test_a_false_person_costs_except_in_an_ignored_region():
    nobody, hidden = _batch([], []), _batch([(0, 0, 15, 15)], [-1])
    false = _maps(BOX)
    assert _loss(false, nobody) > 5
    assert _loss(false, hidden) == pytest.approx(0, abs=1e-2)


def test_a_person_in_an_ignored_region_is_still_asked_for():
    batch = _batch([BOX, (0, 0, 15, 15)], [1, -1])
    assert _loss(_maps(), batch) > 5
    assert _loss(_maps(BOX), batch) == pytest.approx(0, abs=1e-2)


def test_every_person_counts_alike_whatever_its_size():
    small, large = (4.0, 4.0, 6.0, 6.0), (0.0, 0.0, 15.0, 15.0)

    def box_part(box):
        maps = _maps(box)
        maps[:, 1] += (box[2] - box[0]) / 4  # a quarter of its width aside
        return float(_loss(maps, _batch([box], [1])))

    assert box_part(small) == pytest.approx(box_part(large), rel=0.1)


def test_gradients_are_finite_for_extreme_answers():
    maps = torch.full((1, 5, SIZE, SIZE), 60.0, requires_grad=True)
    _loss(maps, _batch([BOX, (0, 0, 4, 4)], [1, -1])).backward()
    assert torch.isfinite(maps.grad).all()
