"""Center maps: what a person detector's network returns, and the boxes in it.

Channels of a (B, 5, H, W) map: the logit of a person's center, the offset (x, y) from the cell to
the center and the logarithm of the box's size (width, height), both in cells ("Objects as Points",
Zhou et al., 2019, section 3). Coordinates are heatmap pixels, centers at whole numbers.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.heatmap import Decoded, Heatmaps

BOX_CHANNELS = 4
"""Of a box, besides the channel of each class."""
MAX_DETECTIONS = 100
"""Boxes that are read from a map, as COCO's evaluation takes them."""
# Logarithms beyond this are boxes that no image holds.
_MAX_LOG_SIZE = 6.0


def decode_centers(maps_B5HW: Heatmaps) -> Decoded:
    """The boxes with the highest scores in each map: maxima of their 3x3 neighborhoods.

    Returns:
        Two corners (left top, right bottom) of each of `MAX_DETECTIONS` boxes, one box after the
        other: (B, 2 * MAX_DETECTIONS, 2), and the box's score at either corner. Where a map has
        fewer maxima the rest has score 0.
    """
    scores_BHW = compute_probability(maps_B5HW[:, 0])
    corners_BHW22 = decode_corners(maps_B5HW)
    xy = np.zeros((len(maps_B5HW), MAX_DETECTIONS, 2, 2), dtype=np.float32)
    score = np.zeros((len(maps_B5HW), MAX_DETECTIONS), dtype=np.float32)
    for number, probability in enumerate(scores_BHW):
        cells = _find_peaks(probability)
        xy[number, : len(cells)] = corners_BHW22[number].reshape(-1, 2, 2)[cells]
        score[number, : len(cells)] = probability.ravel()[cells]
    return Decoded(xy.reshape(len(xy), -1, 2), np.repeat(score, 2, axis=1))


def compute_probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logistic function."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float32))), dtype=np.float32)


def decode_corners(maps_B5HW: Heatmaps) -> NDArray[np.float32]:
    """(B, H, W, 2, 2) left top and right bottom of the box that each cell predicts."""
    height, width = maps_B5HW.shape[2:]
    x = np.arange(width, dtype=np.float32) + maps_B5HW[:, 1]
    y = np.arange(height, dtype=np.float32)[:, None] + maps_B5HW[:, 2]
    center = np.stack([x, y], axis=-1)
    size = np.exp(np.clip(maps_B5HW[:, 3:5], -_MAX_LOG_SIZE, _MAX_LOG_SIZE)).transpose(0, 2, 3, 1)
    return np.asarray(np.stack([center - size / 2, center + size / 2], axis=-2), dtype=np.float32)


def _find_peaks(probability_HW: NDArray[np.float32]) -> NDArray[np.intp]:
    """Flat cells of the highest maxima, the highest first."""
    highest = cv2.dilate(probability_HW, np.ones((3, 3), dtype=np.uint8))
    peaks = np.flatnonzero(probability_HW >= highest)
    order = np.argsort(-probability_HW.ravel()[peaks], kind="stable")
    return np.asarray(peaks[order[:MAX_DETECTIONS]])
