"""Synthetic people: labelled images that need no download and no license.

Everything is a function of (seed, index): the same image on every machine and every epoch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.mask import MaskImage
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.data.synthetic_person import (
    Appearance,
    Posture,
    compute_joints,
    draw_figure,
    interpolate_postures,
    random_posture,
)
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Affine, box_around
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.system.reading import is_count

_DEFAULT_COUNTS = {"train": 2400, "val": 300, "test": 300, "all": 3000}
# Each split draws from its own stretch of indices, so that none shares a image.
_FIRST_INDEX_OF_SPLIT = {"train": 0, "val": 1_000_000, "test": 2_000_000, "all": 0}
_IMAGE_SIDE_PX = 192


@dataclass(frozen=True)
class DrawnImage:
    """A synthetic image, drawn again whenever it is read."""

    index: int

    def read(self) -> Image:
        """Draw the image (192, 192, 3) uint8 BGR."""
        return _draw(self.index).image


@dataclass(frozen=True)
class DrawnMask:
    """What the renderer painted as the person, occluded parts included."""

    index: int

    def warped(self, crop_from_frame: Affine, size: tuple[int, int]) -> MaskImage:
        """The mask (H, W) uint8 in crop pixels of `size` (width, height)."""
        mask = _draw(self.index).figure.astype(np.uint8) * 255
        crop = cv2.warpAffine(mask, crop_from_frame, size, flags=cv2.INTER_NEAREST)
        return np.asarray(crop, dtype=np.uint8)


def load_synthetic(path: Path, split: str) -> PoseDataset:
    """`synthetic` or `synthetic:COUNT` persons for training (an eighth of that to evaluate on)."""
    counts = dict(_DEFAULT_COUNTS)
    if str(path) != ".":
        if not is_count(str(path)) or int(str(path)) < 1:
            raise DataError(f"synthetic:{path} is not a number of persons", "use synthetic:2400")
        train = int(str(path))
        counts = {"train": train, "val": max(1, train // 8), "test": max(1, train // 8),
                  "all": train}  # fmt: skip
    first = _FIRST_INDEX_OF_SPLIT[split]
    samples = [_make_sample(first + i) for i in range(counts[split])]
    source = "synthetic" if str(path) == "." else f"synthetic:{path}"
    return PoseDataset(source, split, LSP14, samples, "pck@0.2")


def _make_sample(index: int) -> Sample:
    xy = _sample_posture(index)[1]
    return Sample(
        id=f"synthetic-{index}",
        image=DrawnImage(index),
        box=box_around(xy),
        xy=xy.astype(np.float32),
        labelled=np.ones(len(LSP14), dtype=np.bool_),
        outline=DrawnMask(index),
    )


def _sample_posture(index: int) -> tuple[Posture, NDArray[np.float64], np.random.Generator]:
    rng = np.random.default_rng([20261, index])
    posture = random_posture(rng)
    height = rng.uniform(0.62, 0.95) * _IMAGE_SIDE_PX
    xy = compute_joints(posture, height)
    low, high = xy.min(axis=0), xy.max(axis=0)
    # Keep every joint inside where the figure fits, else centre it.
    room = np.maximum(_IMAGE_SIDE_PX - 8 - (high - low), 0)
    xy += 4 - low + rng.uniform(size=2) * room
    return posture, xy, rng


class _Drawing(NamedTuple):
    image: Image
    figure: NDArray[np.bool_]


def _draw(index: int) -> _Drawing:
    posture, xy, rng = _sample_posture(index)
    canvas = draw_background((_IMAGE_SIDE_PX, _IMAGE_SIDE_PX), rng)
    figure = draw_figure(canvas, xy, posture, Appearance.random(rng), rng)
    if rng.uniform() < 0.3:
        _occlude(canvas, xy, rng)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0, 8))
    noisy = cv2.scaleAdd(canvas.astype(np.float32), rng.uniform(0.7, 1.15), noise)
    image = np.asarray(cv2.convertScaleAbs(noisy.clip(0)), dtype=np.uint8)
    return _Drawing(image, figure)


def draw_background(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A cluttered, blurred scene (H, W, 3) for `size` (width, height)."""
    width, height = size
    coarse = rng.integers(30, 226, size=(4, 4, 3), dtype=np.uint8)
    scene = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        a, b = (tuple(int(v) for v in rng.integers(0, (width, height))) for _ in range(2))
        if rng.uniform() < 0.5:
            cv2.rectangle(scene, a, b, colour, -1 if rng.uniform() < 0.5 else 3)
        else:
            cv2.line(scene, a, b, colour, int(rng.integers(1, 14)), cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(scene, (0, 0), rng.uniform(1.0, 3.0)), dtype=np.uint8)


def _occlude(canvas: Image, xy: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Lay a bar or disc over some joint; its label stays."""
    centre = tuple(int(v) for v in xy[rng.integers(len(xy))])
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    if rng.uniform() < 0.5:
        cv2.circle(canvas, centre, int(rng.integers(6, 16)), colour, -1, cv2.LINE_AA)
    else:
        axes = (int(rng.integers(5, 11)), int(rng.integers(16, 45)))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)


class SyntheticScene:
    """A person moving smoothly in front of a static scene; frame t is a function of (seed, t)."""

    def __init__(self, size: tuple[int, int], seed: int = 0) -> None:
        self._size = size
        self._seed = seed
        rng = np.random.default_rng([seed, 77])
        self._background = draw_background(size, rng)
        self._look = Appearance.random(rng)

    def frame(self, seconds: float) -> tuple[Image, NDArray[np.float64]]:
        """The image at `seconds` and the true joints (14, 2) in it."""
        xy, posture = self._compute_joints(seconds)
        canvas = self._background.copy()
        draw_figure(canvas, xy, posture, self._look, np.random.default_rng(self._seed))
        return canvas, xy

    def _compute_joints(self, seconds: float) -> tuple[NDArray[np.float64], Posture]:
        step, share = divmod(seconds / 1.5, 1.0)
        ease = share * share * (3 - 2 * share)
        a, b = (
            random_posture(np.random.default_rng([self._seed, 5, int(step) + k]), upright=True)
            for k in (0, 1)
        )
        posture = interpolate_postures(a, b, ease)
        width, height = self._size
        xy = compute_joints(posture, 0.62 * height)
        sway = 0.16 * width * np.sin(seconds * 0.7)
        centre = np.array([width / 2 + sway, height / 2])
        return xy - (xy.min(axis=0) + xy.max(axis=0)) / 2 + centre, posture
