"""The loss of a person detector: focal loss of the centers, GIoU of the boxes.

TTFNet (Liu et al., AAAI 2020): the Gaussian of a center is as elongated as its box, and every cell
under it learns the box, weighted by the Gaussian, which converges much faster than the center cell
alone (CenterNet).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.train.detection_dataset import DetectionBatch

_ALPHA, _BETA = 2.0, 4.0  # of the focal loss (CornerNet, Law and Deng, ECCV 2018, equation 1)
_MAX_LOG_SIZE = 6.0
_MIN_SIGMA = 0.4
_SIGMAS_PER_SIDE = 6.0
# Cells whose Gaussian is below this do not learn the box.
_MIN_BOX_WEIGHT = 0.05
_EPSILON = 1e-6


def detection_loss(
    maps_N5HW: Tensor, batch: DetectionBatch, total: Tensor, box_weight: float, center_size: float
) -> Tensor:
    """The weighted sum of both losses, divided by `total`, the number of persons.

    Args:
        maps_N5HW: as `pose.center_map` describes them.
        center_size: share of a box that its Gaussian covers.
    """
    maps = maps_N5HW.float()
    gaussians = _draw_gaussians(batch, (maps.shape[2], maps.shape[3]), center_size)
    target, owner = gaussians.max(dim=1)
    centers = _compute_focal_loss(maps[:, 0], target, _find_ignored_cells(batch, maps))
    return (centers + box_weight * _compute_box_loss(maps, batch, target, owner, gaussians)) / total


def count_persons(batch: DetectionBatch) -> Tensor:
    """In this process's part of the batch."""
    return (batch.kind > 0).sum().float()


def _draw_gaussians(batch: DetectionBatch, size: tuple[int, int], share: float) -> Tensor:
    """(N, P, H, W): 1 in the cell that holds the center of a person; zero for what is none."""
    height, width = size
    low, high = batch.boxes[..., :2], batch.boxes[..., 2:]
    sigma = (share * (high - low) / _SIGMAS_PER_SIDE).clamp_min(_MIN_SIGMA)
    limit = torch.tensor([width - 1, height - 1], device=low.device)
    cell = ((low + high) / 2).round().clamp_min(0).minimum(limit)
    columns = torch.arange(width, device=low.device) - cell[..., :1]
    rows = torch.arange(height, device=low.device) - cell[..., 1:]
    bell_x = torch.exp(-columns.square() / (2 * sigma[..., :1].square()))
    bell_y = torch.exp(-rows.square() / (2 * sigma[..., 1:].square()))
    bells = bell_y[..., :, None] * bell_x[..., None, :]
    return bells * (batch.kind > 0)[..., None, None]


def _find_ignored_cells(batch: DetectionBatch, maps: Tensor) -> Tensor:
    """(N, H, W) whether a cell lies in an ignored region."""
    height, width = maps.shape[2:]
    columns = torch.arange(width, device=maps.device)
    rows = torch.arange(height, device=maps.device)
    left, top, right, bottom = (batch.boxes[..., i, None] for i in range(4))
    across = (columns >= left) & (columns <= right)
    down = (rows >= top) & (rows <= bottom)
    inside = down[..., :, None] & across[..., None, :]
    return (inside & (batch.kind < 0)[..., None, None]).any(dim=1)


def _compute_focal_loss(logits: Tensor, target: Tensor, ignored: Tensor) -> Tensor:
    """Summed over cells; an ignored region takes nothing from a person's Gaussian in it."""
    positive = target >= 1
    probability = logits.sigmoid()
    hit = F.logsigmoid(logits) * (1 - probability).pow(_ALPHA)
    miss = F.logsigmoid(-logits) * probability.pow(_ALPHA) * (1 - target).pow(_BETA)
    counts = ~ignored | positive
    return -(torch.where(positive, hit, miss) * counts).sum()


def _compute_box_loss(
    maps: Tensor, batch: DetectionBatch, target: Tensor, owner: Tensor, gaussians: Tensor
) -> Tensor:
    """1 - GIoU, for each person averaged over its cells by the Gaussian, summed over persons."""
    image, row, column = torch.nonzero(target > _MIN_BOX_WEIGHT, as_tuple=True)
    if not len(image):
        return maps[:, 1:].sum() * 0
    person = owner[image, row, column]
    weight = target[image, row, column]
    mass = torch.zeros_like(gaussians[..., 0, 0]).index_put_(
        (image, person), weight, accumulate=True
    )
    predicted = _place_boxes(maps[image, 1:, row, column], column, row)
    loss = 1 - _compute_giou(predicted, batch.boxes[image, person])
    return (loss * weight / mass[image, person].clamp_min(_EPSILON)).sum()


def _place_boxes(values_M4: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """(M, 4) corners of the boxes that cells predict."""
    center = torch.stack([column, row], dim=1) + values_M4[:, :2]
    size = values_M4[:, 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    return torch.cat([center - size / 2, center + size / 2], dim=1)


def _compute_giou(a_M4: Tensor, b_M4: Tensor) -> Tensor:
    """Generalized intersection over union (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    shared = torch.minimum(a_M4[:, 2:], b_M4[:, 2:]) - torch.maximum(a_M4[:, :2], b_M4[:, :2])
    intersection = shared.clamp_min(0).prod(dim=1)
    areas = [(box[:, 2:] - box[:, :2]).prod(dim=1) for box in (a_M4, b_M4)]
    union = (areas[0] + areas[1] - intersection).clamp_min(_EPSILON)
    hull = torch.maximum(a_M4[:, 2:], b_M4[:, 2:]) - torch.minimum(a_M4[:, :2], b_M4[:, :2])
    enclosing = hull.prod(dim=1).clamp_min(_EPSILON)
    return intersection / union - (enclosing - union) / enclosing
