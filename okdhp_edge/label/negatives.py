"""Negative boxes without people: next to persons, and in images without any.

A network trained only on boxes with a person finds a person in every box.
"""

from collections.abc import Sequence

import numpy as np

from okdhp_edge.label.boxes import compute_coverage
from okdhp_edge.pose.crop import Box

_MAX_TRIES = 20
# Of the drawn box: an arm that reaches in is not somebody in the box.
_MAX_COVERED_SHARE = 0.1
_HEIGHT_SHARE_RANGE = (0.25, 0.95)
_ASPECT_RATIO_RANGE = (0.4, 1.4)
# How far from a person's middle a box beside it lies, in sizes of the person.
_OFFSET_RANGE = (1.0, 1.6)


def sample_negative_boxes(
    people: Sequence[Box], size: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Box]:
    """Up to `count` boxes that nobody's box reaches into; fewer where there is no room.

    Every second one is a person's box moved aside, the others lie anywhere.

    Args:
        size: (width, height) of the image.
    """
    found: list[Box] = []
    for turn in range(count):
        for _ in range(_MAX_TRIES):
            beside = bool(people) and turn % 2 == 0
            box = _sample_beside(people, rng) if beside else _sample_anywhere(size, rng)
            if _is_mostly_inside(box, size) and all(
                compute_coverage(box, p) < _MAX_COVERED_SHARE for p in people
            ):
                found.append(box)
                break
    return found


def _sample_beside(people: Sequence[Box], rng: np.random.Generator) -> Box:
    box = people[int(rng.integers(len(people)))].copy()
    angle = rng.uniform(0, 2 * np.pi)
    box[:2] += np.array([np.cos(angle), np.sin(angle)]) * box[2:] * rng.uniform(*_OFFSET_RANGE)
    return box


def _sample_anywhere(size: tuple[int, int], rng: np.random.Generator) -> Box:
    height = size[1] * rng.uniform(*_HEIGHT_SHARE_RANGE)
    extent = np.array([height * rng.uniform(*_ASPECT_RATIO_RANGE), height])
    low = rng.uniform(0, 1, 2) * np.maximum(np.array(size) - extent, 0)
    return np.concatenate([low, extent])


def _is_mostly_inside(box: Box, size: tuple[int, int]) -> bool:
    return compute_coverage(box, np.array([0, 0, *size], dtype=np.float64)) > 0.7
