"""Augmentation for person detectors: from images to one example and the boxes in it."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import Augmentation, blur, draw_bernoulli, make_colour_table
from okdhp_edge.data.detection import Boxes, DetectionSample
from okdhp_edge.pose.crop import Affine, apply, crop_from_frame
from okdhp_edge.pose.preprocess import Image, warp

_NUM_MOSAIC_IMAGES = 4
# Where the four images meet, as shares of the example's sides.
_MOSAIC_CENTER_RANGE = (0.3, 0.7)
# Of a box as much has to be left inside the example, and so many pixels, or nobody is asked for it.
_MIN_VISIBLE_SHARE, _MIN_SIDE_PX = 0.25, 6.0


class DetectionExample(NamedTuple):
    """One example.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        persons: (N, 4) left, top, right, bottom in its pixels.
        ignored: (M, 4) likewise, regions that count for nothing.
    """

    image: Image
    persons: NDArray[np.float64]
    ignored: NDArray[np.float64]


class _Tile(NamedTuple):
    """Where an image goes: a rectangle of the example (left, top, right, bottom)."""

    sample: DetectionSample
    rectangle: tuple[int, int, int, int]


def make_detection_example(
    samples: Sequence[DetectionSample],
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> DetectionExample:
    """An image, or four in a mosaic, with random zoom, place, stretch, flip and colors.

    Args:
        samples: the image, and three more for a mosaic.

    Raises:
        DataError: an image cannot be read.
    """
    width, height = spec.size
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:] = spec.border
    persons: list[NDArray[np.float64]] = []
    ignored: list[NDArray[np.float64]] = []
    for tile in _lay_tiles(samples, spec.size, augmentation, rng):
        shown, hidden = _draw_tile(canvas, tile, spec, augmentation, rng)
        persons.append(shown)
        ignored.append(hidden)
    if augmentation.colour:
        canvas = np.asarray(cv2.LUT(canvas, make_colour_table(augmentation.colour, rng)), np.uint8)
    if draw_bernoulli(augmentation.blur, rng):
        canvas = blur(canvas, rng)
    return DetectionExample(canvas, np.concatenate(persons), np.concatenate(ignored))


def _lay_tiles(
    samples: Sequence[DetectionSample],
    size: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> list[_Tile]:
    width, height = size
    mosaic = draw_bernoulli(augmentation.mosaic, rng)
    if not mosaic or len(samples) < _NUM_MOSAIC_IMAGES:
        return [_Tile(samples[0], (0, 0, width, height))]
    x, y = (round(rng.uniform(*_MOSAIC_CENTER_RANGE) * side) for side in size)
    places = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    return [_Tile(s, p) for s, p in zip(samples[:_NUM_MOSAIC_IMAGES], places, strict=True)]


def _draw_tile(
    canvas: Image,
    tile: _Tile,
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw an image into its rectangle; returns its persons and ignored regions in the canvas."""
    left, top, right, bottom = tile.rectangle
    size = right - left, bottom - top
    image = tile.sample.image.read()
    transform = _place_image(tile.sample, image, size, augmentation, rng)
    canvas[top:bottom, left:right] = warp(image, transform, size, spec.border)
    offset = np.array([left, top, left, top])
    persons, lost = _place_boxes(tile.sample.persons, transform, size)
    ignored, gone = _place_boxes(tile.sample.ignored, transform, size)
    return persons + offset, np.concatenate([lost, ignored, gone]) + offset


def _place_image(
    sample: DetectionSample,
    image: Image,
    size: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Affine:
    """The image as inference shows it, larger, smaller, moved: where it is enlarged, a person of
    its is usually kept in sight."""
    box = np.array([0.0, 0.0, image.shape[1], image.shape[0]])
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log(augmentation.zoom)))
    if zoom > 1 and len(sample.persons):
        person = sample.persons[rng.integers(len(sample.persons))]
        middle = person[:2] + rng.uniform(0, 1, 2) * person[2:]
        room = box[2:] * (1 - 1 / zoom) / 2
        center = np.clip(middle + rng.uniform(-0.4, 0.4, 2) * box[2:] / zoom,
                         box[2:] / 2 - room, box[2:] / 2 + room)  # fmt: skip
        box = np.concatenate([center - box[2:] / 2, box[2:]])
    elif zoom < 1:
        box[:2] += rng.uniform(-0.5, 0.5, 2) * box[2:] * (1 / zoom - 1)
    stretch = float(np.exp(rng.uniform(-1, 1) * augmentation.stretch))
    mirror = augmentation.flip and bool(rng.uniform() < 0.5)
    return crop_from_frame(box, size, 1.0, scale=zoom, stretch=stretch, mirror=mirror)


def _place_boxes(
    boxes: Boxes, transform: Affine, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners inside the tile: of boxes of which enough is to be seen, and of the others."""
    low, high = apply(transform, boxes[:, :2]), apply(transform, boxes[:, :2] + boxes[:, 2:])
    corners = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    limit = np.array([*size, *size], dtype=float) - 1
    clipped = np.clip(corners, 0, limit)
    sides = clipped[:, 2:] - clipped[:, :2]
    before = np.maximum((corners[:, 2:] - corners[:, :2]).prod(axis=1), 1e-9)
    seen = (sides.prod(axis=1) >= _MIN_VISIBLE_SHARE * before) & (sides.min(axis=1) >= _MIN_SIDE_PX)
    inside = sides.min(axis=1) > 0
    return clipped[seen], clipped[inside & ~seen]
