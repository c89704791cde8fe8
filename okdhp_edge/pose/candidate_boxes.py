"""Candidate boxes: what a detector with several levels returns, and the persons among them.

(B, 5, 1, N): for each of N candidates its score in 0..1, then left, top, right and bottom in pixels
of the input, counted from the first pixel's edge. Several candidates lie on one person.
"""

import cv2
import numpy as np

from okdhp_edge.pose.center_map import MAX_DETECTIONS
from okdhp_edge.pose.heatmap import Decoded, Heatmaps

MAX_BOX_OVERLAP = 0.6
"""IoU of two persons' boxes, as PicoDet's authors have it."""
# Below it, and beyond so many, candidates cost time and change no COCO AP.
_MIN_SCORE = 0.05
_MAX_CANDIDATES = 1000
# Decoded coordinates are whole numbers at pixels' centers.
_EDGE_TO_CENTER = 0.5


def decode_candidates(candidates_B51N: Heatmaps, max_overlap: float = MAX_BOX_OVERLAP) -> Decoded:
    """The best candidate of each person (greedy non-maximum suppression).

    Args:
        max_overlap: IoU above which the weaker of two boxes is suppressed.

    Returns:
        As `center_map.decode_centers`: two corners of each of `MAX_DETECTIONS` boxes, and the box's
        score at either corner; the rest has score 0.
    """
    batch = len(candidates_B51N)
    xy = np.zeros((batch, MAX_DETECTIONS, 2, 2), dtype=np.float32)
    score = np.zeros((batch, MAX_DETECTIONS), dtype=np.float32)
    for number, all_5N in enumerate(candidates_B51N[:, :, 0].astype(np.float32)):
        # Most candidates are background, and OpenCV takes lists.
        rows_5N = all_5N[:, all_5N[0] >= _MIN_SCORE]
        corners_N4 = rows_5N[1:].T - _EDGE_TO_CENTER
        boxes_N4 = np.hstack([corners_N4[:, :2], corners_N4[:, 2:] - corners_N4[:, :2]])
        kept = cv2.dnn.NMSBoxes(
            boxes_N4.tolist(), rows_5N[0].tolist(), _MIN_SCORE, max_overlap, top_k=_MAX_CANDIDATES
        )
        best = np.ravel(kept).astype(int)[:MAX_DETECTIONS]
        xy[number, : len(best)] = corners_N4[best].reshape(-1, 2, 2)
        score[number, : len(best)] = rows_5N[0, best]
    return Decoded(xy.reshape(batch, -1, 2), np.repeat(score, 2, axis=1))
