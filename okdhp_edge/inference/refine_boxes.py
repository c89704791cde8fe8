"""Two looks at a still image: the joints of the first correct the detector's boxes for the second.

In a video the boxes follow the joints anyway.
"""

from collections.abc import Sequence

import numpy as np

from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.pose.crop import Box, box_around, box_iou, scale_box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import MIN_JOINT_SCORE, PERSON_MARGIN, Pose

# So it is for a sixth of the persons with `full` and `lite`: to estimate these again too would
# bring 0.2 AP more with `full`, 0.9 with `large`.
_MIN_IOU_SAME_BOX = 0.9


def estimate_twice(estimator: PoseEstimator, frame: Image, boxes: Sequence[Box]) -> list[Pose]:
    """As `estimate_many`, and once more in the boxes that the joints correct.

    On COCO it brings 0.2 to 1.5 AP with detected boxes, whose sides are less exact than joints
    (benchmarks/accuracy/end_to_end.py).
    """
    poses = estimator.estimate_many(frame, boxes)
    corrected = {
        index: box
        for index, pose in enumerate(poses)
        if (box := correct_box(boxes[index], pose)) is not None
    }
    again = estimator.estimate_many(frame, list(corrected.values()))
    for index, pose in zip(corrected, again, strict=True):
        poses[index] = pose
    return poses


def correct_box(box: Box, pose: Pose) -> Box | None:
    """Midway between the box and the one that the joints found in it stand for; None where that is
    nearly the box itself, or less than half of the joints are seen, which do not say where the
    person ends."""
    seen_K = pose.score >= MIN_JOINT_SCORE
    if seen_K.sum() < max(len(pose.skeleton) // 2, 2):
        return None
    joints_box = scale_box(box_around(pose.xy[seen_K]), 1 + 2 * PERSON_MARGIN)
    corrected = np.asarray((box + joints_box) / 2, dtype=np.float64)
    return corrected if box_iou(box, corrected) < _MIN_IOU_SAME_BOX else None
