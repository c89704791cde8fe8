"""Preprocessing of a person crop, the same for every stage: one warpAffine.

A bilinear warp reads four pixels for each it writes. Where the person is more than twice as large
as the crop it would skip pixels, and fine texture would turn into patterns that no training crop
has; there the region is first halved, by averages, as often as it fits.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Affine, apply, compose, invert

Image = NDArray[np.uint8]
"""(H, W, 3) BGR."""


def warp(
    frame: Image, crop_from_frame: Affine, input_size: tuple[int, int], border: tuple[int, int, int]
) -> Image:
    """The crop (H, W, 3) uint8 BGR; outside the frame stands `border`, the network's zero."""
    pixels_per_crop_pixel = 1 / np.sqrt(abs(np.linalg.det(crop_from_frame[:, :2])))
    halvings = int(np.log2(max(pixels_per_crop_pixel, 1.0)))
    if halvings:
        frame, crop_from_frame = _halve(frame, crop_from_frame, input_size, halvings)
    crop = cv2.warpAffine(
        frame,
        crop_from_frame,
        input_size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(crop, dtype=np.uint8)


def _halve(
    frame: Image, crop_from_frame: Affine, input_size: tuple[int, int], times: int
) -> tuple[Image, Affine]:
    """The part of the frame that the crop shows, each 2x2 block made one pixel, `times` times.

    Halving is what OpenCV averages fastest: four times quicker than one step of the same size.
    """
    factor = 2**times
    corners = np.array([[0, 0], [input_size[0], 0], [0, input_size[1]], input_size], dtype=float)
    shown = apply(invert(crop_from_frame), corners - 0.5)
    limit = np.array([frame.shape[1], frame.shape[0]])
    low = np.clip(np.floor(shown.min(axis=0)).astype(int) - factor, 0, limit)
    size = (np.clip(np.ceil(shown.max(axis=0)).astype(int) + factor, 0, limit) - low) // factor
    if (size < 1).any():
        return frame, crop_from_frame
    high = low + size * factor
    small = frame[low[1] : high[1], low[0] : high[0]]
    for step in range(times - 1, -1, -1):
        half = (size * 2**step).tolist()
        small = np.asarray(cv2.resize(small, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    middle = (factor - 1) / 2
    frame_from_small = np.array([[factor, 0, low[0] + middle], [0, factor, low[1] + middle]], float)
    return small, compose(crop_from_frame, frame_from_small)
