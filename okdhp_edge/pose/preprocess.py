"""How a person becomes the network's input: one warpAffine, the same for every stage."""

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Affine

Image = NDArray[np.uint8]
"""(H, W, 3) BGR."""


def warp(
    frame: Image, crop_from_frame: Affine, input_size: tuple[int, int], border: tuple[int, int, int]
) -> Image:
    """The crop (H, W, 3) uint8 BGR; outside the frame stands `border`, the network's zero."""
    crop = cv2.warpAffine(
        frame,
        crop_from_frame,
        input_size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(crop, dtype=np.uint8)
