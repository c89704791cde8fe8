"""Preprocessing of a person crop: one warpAffine, or a resize where nothing is rotated.

A bilinear warp reads four pixels for each it writes. Where the person is more than twice as large
as the crop it would skip pixels, and fine texture would turn into patterns that no training crop
has; there the region is first halved, by averages, as often as it fits.
"""

import math
from typing import NamedTuple

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


def resize_region(
    frame: Image, crop_from_frame: Affine, input_size: tuple[int, int], border: tuple[int, int, int]
) -> tuple[Image, Affine]:
    """As `warp`, for large regions that are neither rotated nor mirrored, in a third of the time:
    the region is rounded to whole pixels and resized.

    Persons are not cut out so: a region a pixel wider or lower than asked for moved the joints of
    small ones (COCO AP of `large` 46 to 44 on 151 persons).

    Returns:
        The crop and its own crop_from_frame, at most half an averaged pixel from the one asked for.
    """
    pixels_per_crop_pixel = 1 / float(crop_from_frame[0, 0])
    halvings = int(math.log2(max(pixels_per_crop_pixel, 1.0)))
    spans = [
        _round_span(*crop_from_frame[axis, [axis, 2]].tolist(), input_size[axis],
                    frame.shape[1 - axis], 2**halvings) for axis in (0, 1)
    ]  # fmt: skip
    (left, columns), (top, rows) = ((s.first, s.count) for s in spans)
    if columns > 0 and rows > 0:
        region = frame[top : top + (rows << halvings), left : left + (columns << halvings)]
        region = _average(region, (columns, rows), halvings)
    else:
        region = np.full((1, 1, 3), border, np.uint8)
    (before, after), (above, below) = ((s.before, s.after) for s in spans)
    if before or after or above or below:
        region = cv2.copyMakeBorder(
            region, above, below, before, after, cv2.BORDER_CONSTANT, value=border
        )
    if region.shape[1::-1] != input_size:
        region = cv2.resize(region, input_size, interpolation=cv2.INTER_LINEAR)
    (sx, tx), (sy, ty) = ((s.scale, s.offset) for s in spans)
    return np.ascontiguousarray(region, dtype=np.uint8), np.array([[sx, 0.0, tx], [0.0, sy, ty]])


class _Span(NamedTuple):
    """A region along one axis, in blocks of averaged pixels.

    Attributes:
        first: the frame's pixel at which what is visible of it begins.
        count: visible blocks.
        before: blocks outside the frame before them.
        after: and after them.
        scale: crop pixels per frame pixel.
        offset: of frame pixel 0 in the crop.
    """

    first: int
    count: int
    before: int
    after: int
    scale: float
    offset: float


def _round_span(scale: float, offset: float, size: int, limit: int, block: int) -> _Span:
    start = 0.5 - (offset + 0.5) / scale  # in edges: pixel i lies from i to i + 1
    blocks = max(1, round(size / scale / block))
    # A block on the frame's border would mix the frame with what is outside.
    first = round(start) if start >= 0 else round(start / block) * block
    before = min(max(-first // block, 0), blocks)
    visible = max(0, min((limit - max(first, 0)) // block, blocks - before))
    rounded_scale = size / (blocks * block)
    return _Span(
        max(first, 0), visible, before, blocks - before - visible,
        rounded_scale, (0.5 - first) * rounded_scale - 0.5,
    )  # fmt: skip


def _average(region: Image, size: tuple[int, int], halvings: int) -> Image:
    """The region with each 2x2 block made one pixel, `halvings` times, down to (width, height)."""
    for step in range(halvings - 1, -1, -1):
        half = size[0] << step, size[1] << step
        region = np.asarray(cv2.resize(region, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return region


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
    region = frame[low[1] : high[1], low[0] : high[0]]
    small = _average(region, (int(size[0]), int(size[1])), times)
    middle = (factor - 1) / 2
    frame_from_small = np.array([[factor, 0, low[0] + middle], [0, factor, low[1] + middle]], float)
    return small, compose(crop_from_frame, frame_from_small)
