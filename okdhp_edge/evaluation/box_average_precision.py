"""COCO's average precision of boxes, by COCO's own evaluator."""

import contextlib
import io
from collections.abc import Sequence
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
    evaluator = _run_coco_eval(samples, boxes_ND4, score_ND)
    value = _compute_mean(evaluator)
    images = evaluator.evalImgs
    rng = np.random.default_rng(0)
    values = []
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(_BOOTSTRAP_ROUNDS):
            evaluator.evalImgs = [images[i] for i in rng.integers(0, len(images), len(images))]
            evaluator.accumulate()
            values.append(_compute_mean(evaluator))
    low, high = np.percentile(values, [2.5, 97.5])
    persons = sum(len(s.persons) for s in samples)
    return Score(value, float(low), float(high), persons, np.array([value]))


def _run_coco_eval(
    samples: Sequence[DetectionSample],
    boxes_ND4: NDArray[np.floating],
    score_ND: NDArray[np.floating],
) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # It prints to stdout, which belongs to the command's JSON line.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        images = [{"id": number} for number in range(1, len(samples) + 1)]
        for side, annotations in (
            (truth, _list_annotations(samples)),
            (found, _list_detections(boxes_ND4, score_ND)),
        ):
            side.dataset = {"images": images, "categories": [{"id": _CATEGORY, "name": "person"}],
                            "annotations": annotations}  # fmt: skip
            side.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


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


def _compute_mean(evaluator: Any) -> float:
    """In points; 0 where nobody is to be found."""
    # (thresholds, recalls, categories, areas, numbers of detections), the last: 100 of them.
    precision = evaluator.eval["precision"][..., -1]
    counted = precision[precision > -1]
    return 100 * float(counted.mean()) if len(counted) else 0.0
