"""A person's box between two detections: it goes where the joints go.

The extent of the joints is no box of a person: it leaves out what lies beyond them, and jumps when
a joint comes into view. The detector's box is moved and scaled as the joints are instead, grows
where a joint leaves it, and comes back to the joints slowly.
"""

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Box, box_around
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import MIN_JOINT_SCORE, Pose

_MIN_JOINTS = 3
_MAX_SCALE_PER_FRAME = 1.1
# Share of the way that a side goes back in a frame to where it lay beside the joints.
_RETURN_GAIN = 0.1
# Of a box beyond the joints, as shares of their extent.
_MAX_MARGIN = 0.4


def to_corners(box: Box) -> NDArray[np.float64]:
    """(4,) left, top, right and bottom."""
    return np.concatenate([box[:2], box[:2] + box[2:]])


def move_with_joints(box: Box, before: Pose, after: Pose) -> Box | None:
    """The box moved and scaled as the joints were that both poses have; None of too few.

    Joints weigh by the lower of their two scores; the scale is that of their mean square distances
    from their mean (Umeyama, PAMI 1991, without rotation).
    """
    weight_K = np.minimum(before.score, after.score).astype(np.float64)
    weight_K[weight_K < MIN_JOINT_SCORE] = 0
    if np.count_nonzero(weight_K) < _MIN_JOINTS:
        return None
    weight_K /= weight_K.sum()
    old, new = weight_K @ before.xy, weight_K @ after.xy
    spread = [
        float(weight_K @ ((pose.xy - mean) ** 2).sum(axis=1))
        for pose, mean in ((before, old), (after, new))
    ]
    scale = np.sqrt(spread[1] / max(spread[0], 1e-6))
    scale = float(np.clip(scale, 1 / _MAX_SCALE_PER_FRAME, _MAX_SCALE_PER_FRAME))
    return np.concatenate([(box[:2] - old) * scale + new, box[2:] * scale])


def measure_margins(box: Box, pose: Pose) -> NDArray[np.float64]:
    """(4,) from the corners of the joints' extent to those of the box, as shares of its size."""
    extent = _find_extent(pose)
    margins = (to_corners(box) - to_corners(extent)) / _repeat_size(extent)
    return np.clip(margins, -_MAX_MARGIN, _MAX_MARGIN)


def fit_to_joints(box: Box, pose: Pose, margins: NDArray[np.float64]) -> Box:
    """The box with the joints in it that the detector's box had, its sides a little nearer to where
    `margins` have them."""
    extent = _find_extent(pose)
    size, corners = _repeat_size(extent), to_corners(box)
    gap = to_corners(extent) + margins * size - corners
    outside = np.concatenate([np.maximum(gap[:2], 0), np.minimum(gap[2:], 0)])
    corners = corners + _RETURN_GAIN * outside
    inward = np.concatenate([np.maximum(margins[:2], 0), np.minimum(margins[2:], 0)])
    inner = to_corners(extent) + inward * size
    low, high = np.minimum(corners[:2], inner[:2]), np.maximum(corners[2:], inner[2:])
    return np.concatenate([low, high - low])


def limit_to_frame(box: Box, frame: Image) -> Box:
    """The part of a box that lies no farther outside the frame than the frame is large: a network
    that finds its joints anywhere would let it grow without end."""
    size = np.array(frame.shape[1::-1], dtype=np.float64)
    corners = to_corners(box)
    low = np.clip(corners[:2], -size, 2 * size - 1)
    return np.concatenate([low, np.clip(corners[2:], low + 1, 2 * size) - low])


def _find_extent(pose: Pose) -> Box:
    """Of the joints that are seen; of all where none is."""
    seen = pose.score >= MIN_JOINT_SCORE
    return box_around(pose.xy[seen] if seen.any() else pose.xy)


def _repeat_size(box: Box) -> NDArray[np.float64]:
    return np.maximum(np.tile(box[2:], 2), 1.0)
