"""Gaussian targets, computed on the training device: the workers only send joints."""

import torch
from torch import Tensor

from okdhp_edge.pose.heatmap import TRUNCATE_SIGMAS


def gaussian_targets(xy_BK2: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(B, K, H, W) of peak 1, as `pose.heatmap.gaussians` draws them.

    Args:
        xy_BK2: joints in heatmap pixels.
        size: (height, width) of the heatmap.
        sigma: standard deviation in heatmap pixels.
    """
    height, width = size
    column_BKW = _bell(torch.arange(width, device=xy_BK2.device) - xy_BK2[..., :1], sigma)
    row_BKH = _bell(torch.arange(height, device=xy_BK2.device) - xy_BK2[..., 1:], sigma)
    return row_BKH[..., :, None] * column_BKW[..., None, :]


def _bell(distance: Tensor, sigma: float) -> Tensor:
    values = torch.exp(-distance.square() / (2 * sigma**2))
    return values * (distance.abs() <= TRUNCATE_SIGMAS * sigma)
