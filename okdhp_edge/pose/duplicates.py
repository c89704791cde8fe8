"""Poses of one person that were found twice, in two boxes."""

from collections.abc import Sequence

import numpy as np

from okdhp_edge.pose.result import MIN_JOINT_SCORE, Pose

# Of joints on average, as a share of the person's size.
_MAX_DISTANCE = 0.12
# A box of a part of a person, such as the head, shows some of the joints: so close are they, as a
# share of the part's size, and so many of the part's are the person's too.
_MAX_DISTANCE_PART, _MIN_JOINTS_PART, _MIN_SHARE_PART = 0.1, 4, 0.7


def is_same_person(a: Pose, b: Pose) -> bool:
    """Whether the joints of two poses lie in the same places, or those of a part of a person."""
    apart_K = np.linalg.norm(a.xy - b.xy, axis=1)
    if apart_K.mean() < _MAX_DISTANCE * max(a.size, b.size):
        return True
    seen_a, seen_b = a.score >= MIN_JOINT_SCORE, b.score >= MIN_JOINT_SCORE
    fewest = min(seen_a.sum(), seen_b.sum())
    both = seen_a & seen_b
    if both.sum() < max(_MIN_JOINTS_PART, _MIN_SHARE_PART * fewest):
        return False
    size = min(float(np.ptp(p.xy[seen], axis=0).max()) for p, seen in ((a, seen_a), (b, seen_b)))
    return bool(apart_K[both].mean() < _MAX_DISTANCE_PART * size)


def drop_duplicates(poses: Sequence[Pose]) -> list[Pose]:
    """Of poses of one person that with most joints; their order stays."""
    kept: list[Pose] = []
    for pose in sorted(poses, key=lambda pose: -float(pose.score.sum())):
        if not any(is_same_person(pose, other) for other in kept):
            kept.append(pose)
    chosen = {id(pose) for pose in kept}
    return [pose for pose in poses if id(pose) in chosen]
