"""COCO's average precision of boxes, by COCO's own evaluator."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.detection import DetectionSample
from okdhp_edge.pose.metrics import Score

_BOOTSTRAP_ROUNDS = 200
_MIN_SCORE = 1e-3
"""Boxes of lower scores change nothing and cost the evaluator time."""
_CATEGORY = 1


def box_average_precision_score(
    samples: Sequence[DetectionSample],
    boxes_ND4: NDArray[np.floating],
    score_ND: NDArray[np.floating],
) -> Score:
    """AP over IoU 0.50 to 0.95 with its 95 % bootstrap interval over images.

    Args:
        samples: the images; ignored regions count neither way, as COCO's crowds.
        boxes_ND4: x, y, width, height of D detections an image, in its pixels.
        score_ND: their scores in 0..1; 0 where there is none.
    """
    from pycocotools.cocoeval import COCOeval

    images = [{"id": number} for number in range(1, len(samples) + 1)]
    categories = [{"id": _CATEGORY, "name": "person"}]
    # It prints to stdout, which belongs to the command's JSON line.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (
            index_content({"images": images, "categories": categories, "annotations": annotations})
            for annotations in (_list_annotations(samples), _list_detections(boxes_ND4, score_ND))
        )
        evaluator = run_evaluator(COCOeval(truth, found, "bbox"), sizes=False)
        value = _average(evaluator.eval["precision"])
        low, high = bootstrap_images(evaluator, _average)
    persons = sum(len(s.persons) for s in samples)
    return Score(value, low, high, persons, np.array([value]))


def index_content(content: dict[str, Any]) -> Any:
    """The evaluator's own object of a file's content."""
    from pycocotools.coco import COCO

    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    return truth


def run_evaluator(evaluator: Any, *, sizes: bool) -> Any:
    """The evaluator once it has run: over all sizes together, or also by size."""
    if not sizes:
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def bootstrap_images(
    evaluator: Any, average: Callable[[NDArray[np.float64]], float]
) -> tuple[float, float]:
    """95 % of the average precision of as many images drawn with replacement."""
    images = evaluator.evalImgs
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_BOOTSTRAP_ROUNDS):
        evaluator.evalImgs = [images[i] for i in rng.integers(0, len(images), len(images))]
        evaluator.accumulate()
        values.append(average(evaluator.eval["precision"]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def average_precisions(values: NDArray[np.float64]) -> float:
    """In points; -100 where nothing counts, as COCO's evaluator says it."""
    counted = values[values > -1]
    return 100 * float(counted.mean()) if len(counted) else -100.0


def _list_annotations(samples: Sequence[DetectionSample]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, start=1):
        for crowd, boxes in enumerate((sample.persons, sample.ignored)):
            found += [_make_entry(number, box, iscrowd=crowd) for box in boxes]
    return [entry | {"id": place} for place, entry in enumerate(found, start=1)]


def _list_detections(
    boxes_ND4: NDArray[np.floating], score_ND: NDArray[np.floating]
) -> list[dict[str, Any]]:
    found = [
        _make_entry(number, box, score=float(score))
        for number, (boxes, scores) in enumerate(zip(boxes_ND4, score_ND, strict=True), start=1)
        for box, score in zip(boxes, scores, strict=True)
        if score >= _MIN_SCORE
    ]
    return [entry | {"id": place} for place, entry in enumerate(found, start=1)]


def _make_entry(image: int, box: NDArray[np.floating], **more: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": _CATEGORY, "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]), "iscrowd": 0} | more  # fmt: skip


def _average(precision: NDArray[np.float64]) -> float:
    """In points; 0 where nobody is to be found."""
    # (thresholds, recalls, categories, areas, numbers of detections), the last: 100 of them.
    return max(average_precisions(precision[..., -1]), 0.0)
