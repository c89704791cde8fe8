import numpy as np
import pytest

from okdhp_edge.data.detection import DetectionSample
from okdhp_edge.evaluation.box_average_precision import box_average_precision_score


def _image(persons, ignored=()):
    return DetectionSample(
        id="x", image=None, box=np.zeros(4), xy=np.zeros((1, 2), np.float32),
        labelled=np.array([True]), persons=np.array(persons, float).reshape(-1, 4),
        ignored=np.array(ignored, float).reshape(-1, 4),
    )  # fmt: skip


def _score(images, detections):
    most = max(len(d) for d in detections)
    boxes, scores = np.zeros((len(images), most, 4)), np.zeros((len(images), most))
    for number, found in enumerate(detections):
        for place, (box, score) in enumerate(found):
            boxes[number, place], scores[number, place] = box, score
    return box_average_precision_score(images, boxes, scores)


A, B = [10, 10, 40, 80], [100, 20, 30, 60]


def test_perfect_boxes_have_100_points_and_their_interval_says_so():
    score = _score([_image([A, B]), _image([A])], [[(A, 0.9), (B, 0.8)], [(A, 0.7)]])
    assert score.value == pytest.approx(100)
    assert (score.low, score.high) == (pytest.approx(100), pytest.approx(100))
    assert score.persons == 3


def test_half_of_the_persons_found_is_half_of_the_points():
    assert _score([_image([A, B])], [[(A, 0.9)]]).value == pytest.approx(50.5, abs=0.6)


def test_false_boxes_cost_by_their_rank_and_nothing_in_ignored_regions():
    false = [200, 0, 40, 80]
    above = _score([_image([A])], [[(false, 0.9), (A, 0.8)]])
    below = _score([_image([A])], [[(false, 0.3), (A, 0.8)]])
    hidden = _score([_image([A], [[190, 0, 100, 100]])], [[(false, 0.9), (A, 0.8)]])
    assert above.value == pytest.approx(50)
    assert below.value == pytest.approx(100)
    assert hidden.value == pytest.approx(100)


def test_loose_boxes_lose_the_strict_thresholds():
    loose = [10, 10, 40, 60]  # IoU 0.75
    assert _score([_image([A])], [[(loose, 0.9)]]).value == pytest.approx(60, abs=1)
