"""Person crops and the mapping back to the image, shared by everything that estimates poses.

Evaluation, the loop, labelling and error reports all use this module, so that a network always
sees the same pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.pose.crop import (
    Affine,
    Box,
    Points,
    apply,
    compose,
    crop_from_frame,
    heatmap_from_crop,
    invert,
)
from okdhp_edge.pose.preprocess import Image, letterbox, warp


class Crop(NamedTuple):
    """A person's crop as seen by the network.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        crop_from_image: (2, 3) transform of image pixels to crop pixels.
    """

    image: Image
    crop_from_image: Affine


def crop_person(
    image: Image,
    box: Box,
    size: tuple[int, int],
    padding: float,
    border: tuple[int, int, int],
    *,
    rotation_deg: float = 0.0,
    mirror: bool = False,
) -> Crop:
    """Crop a person.

    Args:
        image: (H, W, 3) uint8 BGR.
        box: x, y, width, height in pixels, unpadded.
        size: (width, height) of the crop.
        padding: growth of the box, 1.25 for a quarter.
        border: BGR of what lies outside the image.
        rotation_deg: counter-clockwise as seen in the image.
        mirror: exchange left and right, after the rotation.
    """
    transform = crop_from_frame(box, size, padding, rotation_deg=rotation_deg, mirror=mirror)
    return Crop(warp(image, transform, size, border), transform)


def crop_for(spec: InputSpec, image: Image, box: Box) -> Crop:
    """As `crop_person`, in the way that a model's card says."""
    return crop_person(image, box, spec.size, spec.box_padding, spec.border)


def letterbox_for(spec: InputSpec, image: Image) -> Crop:
    """The whole image, in the way that a detector's card says."""
    return Crop(*letterbox(image, spec.size, spec.box_padding, spec.border))


def to_image(crop_from_image: Affine, xy_crop: NDArray[np.floating]) -> Points:
    """Crop pixels (..., 2) to image pixels."""
    return apply(invert(crop_from_image), xy_crop)


def image_from_heatmap(crop_from_image: Affine, stride: int) -> Affine:
    """The (2, 3) transform of heatmap pixels to image pixels."""
    return compose(invert(crop_from_image), invert(heatmap_from_crop(stride)))
