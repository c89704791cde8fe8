"""Affine transforms between frame, crop and heatmap.

Pixel centres lie at whole numbers in every image. A transform is a (2, 3) float64 matrix named
`<to>_from_<from>` and applied with `apply(to_from_from, xy_from)`. They are made in plain Python:
for six numbers it takes a fifth of NumPy's time, and each person of each frame needs several.
"""

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Points = NDArray[np.float64]
Box = NDArray[np.float64]
"""(4,) x, y, width, height in frame pixels."""

# An empty box shows a point.
_MIN_BOX_SIDE_PX = 1e-6


def crop_from_frame(
    box: Box,
    input_size: tuple[int, int],
    padding: float,
    *,
    rotation_deg: float = 0.0,
    scale: float = 1.0,
    stretch: float = 1.0,
    mirror: bool = False,
) -> Affine:
    """Map the padded box, grown to the input's aspect ratio, onto the network's input.

    Args:
        box: person box in the frame.
        input_size: (width, height) of the crop.
        padding: box growth, 1.25 = a quarter larger.
        rotation_deg: augmentation, counter-clockwise as seen in the image.
        scale: augmentation, > 1 shows the person larger.
        stretch: augmentation, > 1 shows the person wider by this factor and as much lower.
        mirror: augmentation, flip left and right after the rotation.
    """
    width, height = input_size
    left, top, box_width, box_height = map(float, box)
    x, y = left + box_width / 2, top + box_height / 2
    shown = max(box_width, box_height * width / height, _MIN_BOX_SIDE_PX)
    pixels = width * scale / (shown * padding)
    angle = math.radians(rotation_deg)
    cos, sin = math.cos(angle) * pixels, math.sin(angle) * pixels
    side = -1.0 if mirror else 1.0
    xx, xy = side * cos * stretch, side * sin / stretch
    yx, yy = -sin * stretch, cos / stretch
    return np.array([
        [xx, xy, (width - 1) / 2 - (xx * x + xy * y)],
        [yx, yy, (height - 1) / 2 - (yx * x + yy * y)],
    ])  # fmt: skip


def heatmap_from_crop(stride: int) -> Affine:
    """Heatmap cell i covers crop pixels stride*i .. stride*i + stride-1; its centre is theirs."""
    offset = (0.5 / stride) - 0.5
    return np.array([[1 / stride, 0.0, offset], [0.0, 1 / stride, offset]])


class HeatmapGrid(StrEnum):
    """Where the cells of a network's heatmaps lie in its input; implementations differ."""

    CENTERS = "centers"
    """Cell i covers `stride` pixels and lies at their center, as in this project."""
    ORIGIN = "origin"
    """Cell i lies at pixel stride * i, with no half cell between (PaddleDetection's TinyPose)."""
    CORNERS = "corners"
    """First and last cell lie on the first and last pixel (Huang et al., "The Devil Is in the
    Details", CVPR 2020: unit length is size - 1)."""

    def input_from_heatmap(
        self, input_size: tuple[int, int], heatmap_size: tuple[int, int]
    ) -> Affine:
        """The (2, 3) transform of heatmap cells to input pixels; sizes are (width, height)."""
        image, cells = np.array(input_size, float), np.array(heatmap_size, float)
        last = np.maximum(cells - 1, 1)
        scale = (image - 1) / last if self is HeatmapGrid.CORNERS else image / cells
        shift = (scale - 1) / 2 if self is HeatmapGrid.CENTERS else np.zeros(2)
        return np.column_stack([np.diag(scale), shift])


def invert(transform: Affine) -> Affine:
    """The transform back: `frame_from_crop = invert(crop_from_frame)`."""
    (a, b, c), (d, e, f) = transform.tolist()
    determinant = a * e - b * d
    return np.array([
        [e / determinant, -b / determinant, (b * f - c * e) / determinant],
        [-d / determinant, a / determinant, (c * d - a * f) / determinant],
    ])  # fmt: skip


def compose(outer: Affine, inner: Affine) -> Affine:
    """`compose(c_from_b, b_from_a)` is c_from_a."""
    (a, b, c), (d, e, f) = outer.tolist()
    (g, h, i), (j, k, m) = inner.tolist()
    return np.array([
        [a * g + b * j, a * h + b * k, a * i + b * m + c],
        [d * g + e * j, d * h + e * k, d * i + e * m + f],
    ])  # fmt: skip


def apply(transform: Affine, xy: NDArray[np.floating]) -> Points:
    """Map points (..., 2)."""
    mapped: Points = xy @ transform[:, :2].T + transform[:, 2]
    return mapped


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / max(float(np.prod(a[2:]) + np.prod(b[2:])) - shared, 1e-9)


def scale_box(box: Box, factor: float) -> Box:
    """The box around the same center, larger by a factor."""
    size = box[2:] * factor
    return np.concatenate([box[:2] - (size - box[2:]) / 2, size])


def box_around(xy: NDArray[np.floating]) -> Box:
    """The tight box round points (N, 2)."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    return np.concatenate([low, high - low]).astype(np.float64)
