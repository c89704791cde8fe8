"""Preprocessing of a person crop: one warpAffine, or a resize where nothing is rotated.

A bilinear warp reads four pixels for each it writes. Where the person is more than twice as large
as the crop it would skip pixels, and fine texture would turn into patterns that no training crop
has; there the region is first halved, by averages, as often as it fits.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Affine, compose, invert

# OpenCV 4 counts a warp's source pixels in 16 bits: of longer sides the part that is shown is cut
# out.
_MAX_WARPED_SIDE_PX = 32_000
Image = NDArray[np.uint8]
"""(H, W, 3) BGR."""


def warp(
    frame: Image, crop_from_frame: Affine, input_size: tuple[int, int], border: tuple[int, int, int]
) -> Image:
    """The crop (H, W, 3) uint8 BGR; outside the frame stands `border`, the network's zero."""
    (a, b, _), (c, d, _) = crop_from_frame.tolist()
    pixels_per_crop_pixel = 1 / math.sqrt(abs(a * d - b * c))
    halvings = int(math.log2(max(pixels_per_crop_pixel, 1.0)))
    if halvings or max(frame.shape[:2]) > _MAX_WARPED_SIDE_PX:
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


def resize_within(image: Image, size: tuple[int, int]) -> Image:
    """The whole image, as large as it fits into (width, height); no side shorter than a pixel."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    shown = (
        min(max(1, round(width * scale)), size[0]), min(max(1, round(height * scale)), size[1])
    )  # fmt: skip
    return np.asarray(cv2.resize(image, shown, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def letterbox(
    frame: Image, input_size: tuple[int, int], padding: float, border: tuple[int, int, int]
) -> tuple[Image, Affine]:
    """The whole frame in the middle of the input, as detectors see it, and its crop_from_frame.

    It is resized to whole pixels, which takes a third of a warp's time. The transform is of boxes,
    which count from the frame's edge, and not of pixel centers: half a pixel apart.
    """
    width, height = frame.shape[1::-1]
    scale = min(input_size[0] / width, input_size[1] / height) / padding
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    halvings = int(math.log2(max(min(width / shown[0], height / shown[1]), 1.0)))
    blocks = width >> halvings, height >> halvings
    read = blocks[0] << halvings, blocks[1] << halvings
    small = _average(frame[: read[1], : read[0]], blocks, halvings)
    if blocks != shown:
        small = np.asarray(cv2.resize(small, shown, interpolation=cv2.INTER_LINEAR), np.uint8)
    left, top = ((side - part) // 2 for side, part in zip(input_size, shown, strict=True))
    right, bottom = input_size[0] - shown[0] - left, input_size[1] - shown[1] - top
    crop = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=border)
    scale_x, scale_y = shown[0] / read[0], shown[1] / read[1]
    transform = [[scale_x, 0, left - 0.5], [0, scale_y, top - 0.5]]
    return np.asarray(crop, dtype=np.uint8), np.array(transform)


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
    crop_corners = [
        (x, y) for x in (-0.5, input_size[0] - 0.5) for y in (-0.5, input_size[1] - 0.5)
    ]
    frame_from_crop = invert(crop_from_frame).tolist()
    (left, columns), (top, rows) = (
        _cover([a * x + b * y + c for x, y in crop_corners], factor, limit)
        for (a, b, c), limit in zip(frame_from_crop, frame.shape[1::-1], strict=True)
    )
    if columns < 1 or rows < 1:
        return frame, crop_from_frame
    region = frame[top : top + rows * factor, left : left + columns * factor]
    small = _average(region, (columns, rows), times)
    middle = (factor - 1) / 2
    frame_from_small = np.array([[factor, 0, left + middle], [0, factor, top + middle]], float)
    return small, compose(crop_from_frame, frame_from_small)


def _cover(places: list[float], factor: int, limit: int) -> tuple[int, int]:
    """The first pixel, and the number of blocks of `factor` pixels, that cover these places and one
    block around them, as far as there are pixels."""
    first = min(max(math.floor(min(places)) - factor, 0), limit)
    last = min(max(math.ceil(max(places)) + factor, 0), limit)
    return first, (last - first) // factor
