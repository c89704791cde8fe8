"""Follow one person: the box comes from the last joints, or from a search where there are none."""

from collections.abc import Iterator

import numpy as np

from okdhp_edge.pose.crop import Box, box_around
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.estimate import Estimator

JOINT_SEEN = 0.25
"""A joint's score from which it is drawn and steers the box."""
_LOST_BELOW = 0.3
_MIN_JOINTS = 4
_REFINEMENTS = 2
# Windows tried in a search, as shares of the frame's shorter side.
_WINDOW_SHARES = (0.9, 0.6, 0.4)


class PersonTracker:
    """One person across frames.

    A person counts as found while the mean score of the joints is above a threshold. When lost,
    the whole frame is tried first, then windows over it; the best is refined by its own joints.
    """

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._box: Box | None = None

    def forget(self) -> None:
        """The next frame shows another scene."""
        self._box = None

    def find(self, frame: Image) -> Pose | None:
        """The person's pose in this frame, None when nobody is found."""
        pose = self._estimator.pose_in(frame, self._box) if self._box is not None else None
        if pose is None or not is_person(pose):
            pose = self._search(frame)
        self._box = person_box(pose, frame) if pose else None
        return pose

    def _search(self, frame: Image) -> Pose | None:
        best = max(
            (self._estimator.pose_in(frame, box) for box in search_boxes(frame)),
            key=lambda pose: pose.mean_score,
        )
        for _ in range(_REFINEMENTS):
            box = person_box(best, frame)
            if box is None:
                return None
            best = self._estimator.pose_in(frame, box)
        return best if is_person(best) else None


def is_person(pose: Pose) -> bool:
    """Whether the joints are sure enough to be somebody."""
    return pose.mean_score >= _LOST_BELOW and int((pose.score >= JOINT_SEEN).sum()) >= _MIN_JOINTS


def person_box(pose: Pose, frame: Image) -> Box | None:
    """The extent of the joints that are seen, None when too few are or they lie in a point."""
    seen = pose.score >= JOINT_SEEN
    if seen.sum() < _MIN_JOINTS:
        return None
    box = box_around(pose.xy[seen])
    smallest = 0.02 * min(frame.shape[:2])
    return box if max(box[2], box[3]) >= smallest else None


def search_boxes(frame: Image) -> Iterator[Box]:
    """The whole frame, then half-overlapping square windows of falling size."""
    height, width = frame.shape[:2]
    yield np.array([0.0, 0.0, width, height])
    for share in _WINDOW_SHARES:
        side = share * min(height, width)
        for y in _starts(height, side):
            for x in _starts(width, side):
                yield np.array([x, y, side, side])


def _starts(length: int, side: float) -> list[float]:
    steps = max(1, int(np.ceil((length - side) / (side / 2))))
    return [float(v) for v in np.linspace(0, length - side, steps + 1)]
