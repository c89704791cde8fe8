"""What a teacher is shown and what it answers, brought to the student's sizes and grid.

N crops, K joints.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.pose.crop import HeatmapGrid, apply, compose, invert
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.train.losses import compute_presence_logits

_GREY = 128


class Frame(NamedTuple):
    """Where a crop lies in a teacher's input of another aspect ratio; whole pixels.

    Attributes:
        input_size: (width, height) of the teacher's input.
        crop_size: (width, height) of the crop in it.
    """

    input_size: tuple[int, int]
    crop_size: tuple[int, int]

    @property
    def origin(self) -> tuple[int, int]:
        """(left, top) of the crop, which lies in the middle."""
        (width, height), (inner_width, inner_height) = self
        return (width - inner_width) // 2, (height - inner_height) // 2


def make_frame(input_size: tuple[int, int], crop_size: tuple[int, int]) -> Frame:
    """The frame in which a crop of this aspect ratio, to a pixel, is as large as can be.

    Args:
        input_size: (width, height) of the teacher's input.
        crop_size: (width, height) of the student's crops.
    """
    (width, height), (crop_width, crop_height) = input_size, crop_size
    scale = min(width / crop_width, height / crop_height)
    return Frame(input_size, (round(crop_width * scale), round(crop_height * scale)))


def move_to_grid(
    maps_NKHW: Tensor,
    size: tuple[int, int],
    grid: HeatmapGrid,
    frame: Frame,
    offset_K2: NDArray[np.floating],
) -> Tensor:
    """Heatmaps whose cells lie anywhere in the input, read where the student's cells lie.

    Args:
        size: (height, width) of the student's heatmaps.
        grid: where the given cells lie.
        frame: where the crop lies in the teacher's input.
        offset_K2: x and y, in the given cells, that decoded positions have added.
    """
    height, width = maps_NKHW.shape[2:]
    cells_from_input = invert(grid.input_from_heatmap(frame.input_size, (width, height)))
    input_from_cells = HeatmapGrid.CENTERS.input_from_heatmap(frame.crop_size, size[::-1])
    input_from_cells[:, 2] += frame.origin
    rows, columns = np.mgrid[: size[0], : size[1]]
    wanted = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
    places = apply(compose(cells_from_input, input_from_cells), wanted).reshape(*size, 2)
    places_KHW2 = places[None] - offset_K2[:, None, None]
    shares = 2 * places_KHW2 / np.maximum([width - 1, height - 1], 1) - 1
    where = torch.as_tensor(shares, dtype=maps_NKHW.dtype, device=maps_NKHW.device)
    moved = F.grid_sample(
        maps_NKHW.transpose(0, 1), where, mode="bilinear", padding_mode="border", align_corners=True
    )
    return moved.transpose(0, 1)


def normalize_peaks(maps_NKHW: Tensor, kind: HeatmapKind) -> Tensor:
    """Non-negative with peak 1: a softmax of logits, or the Gaussians as they are."""
    if kind is not HeatmapKind.GAUSSIAN:
        return (maps_NKHW - maps_NKHW.amax(dim=(2, 3), keepdim=True)).exp()
    maps_NKHW = maps_NKHW.clamp_min(0.0)
    return maps_NKHW / maps_NKHW.amax(dim=(2, 3), keepdim=True).clamp_min(1e-3)


def find_confidences(maps_NKHW: Tensor, kind: HeatmapKind) -> Tensor:
    """(N, K) how sure a teacher is that the joint is in the crop, 0..1; of logits alone it is not
    known and 1."""
    if kind is HeatmapKind.GAUSSIAN:
        return maps_NKHW.amax(dim=(2, 3))
    if kind is HeatmapKind.PRESENCE:
        return compute_presence_logits(maps_NKHW).sigmoid()
    return maps_NKHW.new_ones(maps_NKHW.shape[:2])


def resize_image(image_NHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """To the teacher's (width, height), uint8."""
    height, width = image_NHWC.shape[1:3]
    if (width, height) == size:
        return image_NHWC
    image = F.interpolate(
        image_NHWC.permute(0, 3, 1, 2).float(), size[::-1], mode="bilinear", antialias=True
    )
    return image.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def draw_in_frame(image_NHWC: Tensor, frame: Frame) -> Tensor:
    """The crops in the teacher's input, grey beside them where its aspect ratio is another."""
    image_NHWC = resize_image(image_NHWC, frame.crop_size)
    if frame.input_size == frame.crop_size:
        return image_NHWC
    (left, top), (crop_width, crop_height) = frame.origin, frame.crop_size
    width, height = frame.input_size
    shape = (len(image_NHWC), height, width, image_NHWC.shape[3])
    drawn = torch.full(shape, _GREY, dtype=torch.uint8, device=image_NHWC.device)
    drawn[:, top : top + crop_height, left : left + crop_width] = image_NHWC
    return drawn
