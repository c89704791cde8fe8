"""What a teacher is shown and what it answers, brought to the student's sizes and grid.

N crops, K joints.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.pose.crop import HeatmapGrid, apply, compose, invert
from okdhp_edge.pose.heatmap import HeatmapKind


def move_to_grid(
    maps_NKHW: Tensor,
    size: tuple[int, int],
    grid: HeatmapGrid,
    input_size: tuple[int, int],
    offset_K2: NDArray[np.floating],
) -> Tensor:
    """Heatmaps whose cells lie anywhere in the input, read where the student's cells lie.

    Args:
        size: (height, width) of the student's heatmaps.
        grid: where the given cells lie.
        input_size: (width, height) of the teacher's input.
        offset_K2: x and y, in the given cells, that decoded positions have added.
    """
    height, width = maps_NKHW.shape[2:]
    cells_from_input = invert(grid.input_from_heatmap(input_size, (width, height)))
    input_from_cells = HeatmapGrid.CENTERS.input_from_heatmap(input_size, size[::-1])
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


def resize_image(image_NHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """To the teacher's (width, height), uint8."""
    height, width = image_NHWC.shape[1:3]
    if (width, height) == size:
        return image_NHWC
    image = F.interpolate(
        image_NHWC.permute(0, 3, 1, 2).float(), size[::-1], mode="bilinear", antialias=True
    )
    return image.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
