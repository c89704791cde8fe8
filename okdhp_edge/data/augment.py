"""Augmentation: from a sample to a training crop and its joints."""

from functools import partial
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.sample import Sample
from okdhp_edge.pose.crop import Affine, Box, apply, box_around, crop_from_frame
from okdhp_edge.pose.preprocess import Image, warp
from okdhp_edge.pose.skeleton import Skeleton

Share = Annotated[float, Field(ge=0, le=1)]

_LOWER_BODY_SUFFIXES = ("hip", "knee", "ankle", "pelvis")
_MIN_BOX_JOINTS = 4
_TYPICAL_SPREAD = 0.02
"""Of a label whose joint counts half as much as one without any doubt."""
# Of the erased rectangle's area in the crop's, and of its aspect ratio's logarithm.
_ERASED_AREA_RANGE, _MAX_ERASED_LOG_ASPECT = (0.02, 0.2), np.log(3.0)
# A COCO person of 40 px in a crop that shows people at 200.
_DOWNSCALING_RANGE = (1.5, 5.0)


class Augmentation(BaseModel):
    """The `[augmentation]` table of a recipe; the zeros switch each part off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 40.0
    """Rotation is uniform within plus or minus this."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The person appears larger or smaller by up to this share."""
    stretch: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The person appears wider and lower, or narrower and higher, by up to this share: for sets
    whose images were squeezed to a square."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """The box moves by up to this share of its size."""
    flip: bool = True
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Brightness, contrast and colour gains vary by up to this share."""
    joint_box: Share = 0.0
    """Share of the persons who are cut out by the extent of their labelled joints, as `run` does
    while it tracks a person, instead of by their box, as it does after a detection."""
    half_body: Share = 0.0
    """Share of the persons of whom only the upper or the lower half fills the crop (Wang et al.,
    "Mask-guided half-body", as in HRNet-era recipes)."""
    erase: Share = 0.0
    """Share of the crops of which a rectangle is noise (Zhong et al., AAAI 2020): an occlusion."""
    blur: Share = 0.0
    """Share of the crops that are as unsharp as a person 1.5 to 5 times smaller."""
    zoom: Annotated[float, Field(ge=1, le=8)] = 1.0
    """Of a detector: images appear larger or smaller by up to this factor."""
    mosaic: Share = 0.0
    """Of a detector: share of the examples that are put together of four images (YOLOv4,
    Bochkovskiy et al., 2020, section 3.3)."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Crops of each person in one step, augmented independently (Hoffer et al., CVPR 2020)."""


NO_AUGMENTATION = Augmentation(rotation_deg=0, scale=0, shift=0, flip=False, colour=0)


class TrainingCrop(NamedTuple):
    """One example.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        xy: (K, 2) joints in crop pixels.
        weight: (K,) where the joint is labelled and inside the crop 1, or less where its position
            is uncertain; else 0.
        absent: (K,) 1 where the joint is known not to be inside the crop, else 0.
        transform: crop_from_frame.
        mirrored: whether left and right are exchanged.
        large: the same crop in another size, if one was asked for.
    """

    image: Image
    xy: NDArray[np.float32]
    weight: NDArray[np.float32]
    absent: NDArray[np.float32]
    transform: Affine
    mirrored: bool
    large: Image | None


def make_training_crop(
    sample: Sample,
    skeleton: Skeleton,
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
    large: tuple[int, int] | None = None,
) -> TrainingCrop:
    """Crop the person with random rotation, scale, shift, flip and colors.

    Where the network's input has a fourth channel, that is the person's mask.

    Args:
        large: (width, height) of a second crop of just the same, for a high-resolution teacher.

    Raises:
        DataError: the image cannot be read.
    """
    mirror = augmentation.flip and rng.uniform() < 0.5
    box = _move_box(sample, skeleton, augmentation, rng)
    rotation = rng.uniform(-1, 1) * augmentation.rotation_deg
    scale = 1 + rng.uniform(-1, 1) * augmentation.scale
    stretch = np.exp(rng.uniform(-1, 1) * augmentation.stretch) if augmentation.stretch else 1.0
    whole = sample.image.read()
    colours = make_colour_table(augmentation.colour, rng) if augmentation.colour else None

    place = partial(crop_from_frame, box, padding=spec.box_padding, rotation_deg=rotation,
                    scale=scale, stretch=stretch, mirror=mirror)  # fmt: skip

    def cut(size: tuple[int, int]) -> Image:
        image = warp(whole, place(input_size=size), size, spec.border)
        if colours is not None:
            image = np.asarray(cv2.LUT(image, colours), dtype=np.uint8)
        mask = [sample.mask.warped(place(input_size=size), size)] if spec.mask else []
        return np.dstack([image, *mask])

    transform = place(input_size=spec.size)
    xy, labelled = apply(transform, sample.xy), sample.labelled
    absent = np.zeros_like(labelled) if sample.absent is None else sample.absent
    certainty = compute_certainty(sample)
    if mirror:
        flip = skeleton.flip_index
        xy, labelled, absent, certainty = xy[flip], labelled[flip], absent[flip], certainty[flip]
    inside = ((xy >= 0) & (xy <= np.array(spec.size) - 1)).all(axis=1)
    # A teacher with better eyes looks past the blur and the occlusion.
    image = cut(spec.size)
    if draw_bernoulli(augmentation.blur, rng):
        image = blur(image, rng)
    if draw_bernoulli(augmentation.erase, rng):
        _erase(image, rng)
    return TrainingCrop(
        image=image,
        xy=np.where(labelled[:, None], xy, 0.0).astype(np.float32),
        weight=(labelled & inside) * certainty,
        absent=(absent | (labelled & ~inside)).astype(np.float32),
        transform=transform,
        mirrored=mirror,
        large=cut(large) if large else None,
    )


def compute_certainty(sample: Sample) -> NDArray[np.float32]:
    """(K,) weights in 0..1 of a person's joints: inverse variances (of the position, from its
    spread, and a constant one of the labels themselves), 1 where the set has no spreads."""
    if sample.spread is None:
        return np.ones(len(sample.labelled), np.float32)
    return np.asarray(1 / (1 + np.square(sample.spread / _TYPICAL_SPREAD)), np.float32)


def _move_box(
    sample: Sample, skeleton: Skeleton, augmentation: Augmentation, rng: np.random.Generator
) -> Box:
    """What is cut out: the person, the extent of the joints, or a half; a little aside."""
    box = sample.box.copy()
    if draw_bernoulli(augmentation.joint_box, rng) and sample.labelled.sum() >= _MIN_BOX_JOINTS:
        box = box_around(sample.xy[sample.labelled])
    if draw_bernoulli(augmentation.half_body, rng):
        box = _choose_half_box(sample, skeleton, rng)
    box[:2] += rng.uniform(-1, 1, 2) * augmentation.shift * box[2:].max()
    return box


def draw_bernoulli(share: float, rng: np.random.Generator) -> bool:
    """Whether what has this share happens; draws only for what the recipe asks for, so that other
    augmentation stays as it was."""
    return share > 0 and bool(rng.uniform() < share)


def _choose_half_box(sample: Sample, skeleton: Skeleton, rng: np.random.Generator) -> Box:
    """The box round the joints of one half, where enough of them are labelled."""
    lower = np.array([name.endswith(_LOWER_BODY_SUFFIXES) for name in skeleton.joints])
    half = sample.labelled & (lower == (rng.uniform() < 0.5))
    return box_around(sample.xy[half]) if half.sum() >= _MIN_BOX_JOINTS else sample.box.copy()


def blur(image: Image, rng: np.random.Generator) -> Image:
    """The image as unsharp as if it had been 1.5 to 5 times smaller."""
    height, width = image.shape[:2]
    factor = np.exp(rng.uniform(*np.log(_DOWNSCALING_RANGE)))
    low_size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(image, low_size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height)), dtype=np.uint8)


def _erase(image: Image, rng: np.random.Generator) -> None:
    """Put noise into a rectangle of the image; a mask beside it is left as it is."""
    height, width = image.shape[:2]
    side = np.sqrt(rng.uniform(*_ERASED_AREA_RANGE) * height * width)
    stretch = np.exp(rng.uniform(-1, 1) * _MAX_ERASED_LOG_ASPECT / 2)
    rows, columns = min(int(side * stretch), height), min(int(side / stretch), width)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    noise = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    image[top : top + rows, left : left + columns, :3] = noise


def make_colour_table(strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(1, 256, 3) levels by level, for `cv2.LUT`, of a random brightness, contrast and tint."""
    gain = 1 + rng.uniform(-1, 1) * strength + rng.uniform(-0.4, 0.4, 3) * strength
    offset = rng.uniform(-1, 1) * strength * 128
    levels = np.arange(256, dtype=np.float32)[:, None]
    return np.clip((levels - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)[None]
