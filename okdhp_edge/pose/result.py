"""What the pipeline produces: one person's joints in the source frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.skeleton import Skeleton

MIN_JOINT_SCORE = 0.3
"""A joint's score from which it is drawn and steers the box."""
PERSON_MARGIN = 0.1
"""Of a person's box beyond the joints on each side, as a share of their extent: of 60 persons of
COCO with twelve joints and more the median is 0.11 to 0.14, by side."""
_MIN_RANKED_JOINT_SCORE = 0.2


@dataclass(frozen=True)
class Pose:
    """Joints of one person.

    Attributes:
        skeleton: names and order of the joints.
        xy: (K, 2) pixels of the source frame.
        score: (K,) confidence in 0..1.
        id: the same for one person from frame to frame; None without tracking.
        box: (4,) x, y, width, height of the person in the frame, as the detector found it or as
            the joints led it since; None without a detector.
        box_score: the detector's, in 0..1, of when it last found the person.
    """

    skeleton: Skeleton
    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    id: int | None = None
    box: Box | None = None
    box_score: float | None = None

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        if self.xy.shape != (joints, 2) or self.score.shape != (joints,):
            raise ValueError(
                f"expected xy ({joints}, 2) and score ({joints},), "
                f"got {self.xy.shape} and {self.score.shape}"
            )

    @property
    def size(self) -> float:
        """Longer side of the joints' extent, in pixels."""
        return float(np.ptp(self.xy, axis=0).max())

    @property
    def presence_score(self) -> float:
        """Score of a person being present: the mean of the upper half of the joints' scores.

        If only half of a person is visible, the hidden joints do not count.
        """
        half = max(1, len(self.score) // 2)
        return float(np.partition(self.score, -half)[-half:].mean())

    @property
    def confidence(self) -> float:
        """What the poses of an image are ranked by, as in COCO's results: how exactly the person is
        expected to be placed, times the detector's score where there is one."""
        return score_joints(self.score) * (1.0 if self.box_score is None else self.box_score)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready record: joint name -> [x, y, score]; the box where a detector found it."""
        known: dict[str, Any] = {} if self.id is None else {"id": self.id}
        if self.box is not None and self.box_score is not None:
            known["box"] = [round(float(v), 2) for v in self.box]
            known["box_score"] = round(self.box_score, 4)
        return known | {
            "score": round(self.confidence, 4),
            "joints": {
                name: [round(float(x), 2), round(float(y), 2), round(float(s), 4)]
                for name, (x, y), s in zip(self.skeleton.joints, self.xy, self.score, strict=True)
            },
        }


def score_joints(score_K: NDArray[np.floating]) -> float:
    """How exactly a person is expected to be placed.

    The mean of the joints' scores above 0.2 (Xiao et al., ECCV 2018), weighted by themselves: of
    joints that may not be there COCO's evaluation counts those that people labelled.
    """
    sure = score_K[score_K > _MIN_RANKED_JOINT_SCORE].astype(np.float64)
    return float(np.average(sure, weights=sure)) if len(sure) else 0.0
