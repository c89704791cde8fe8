"""Average heatmaps over several augmented views of a person."""

import torch
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.train.dataset import Batch


def average_over_views(
    heatmaps_NKHW: Tensor, batch: Batch, views: int, flip_index: Tensor
) -> Tensor:
    """Each view's heatmaps replaced by the mean of all views', turned into that view.

    A view counts for a joint only where it shows it; a joint that no view shows keeps its own.

    Args:
        heatmaps_NKHW: N = views times persons, view by view.
        batch: where each of the N crops lies in its image.
        views: crops of each person.
        flip_index: (K,) the joint that each becomes when left and right are exchanged.
    """
    with torch.autocast(heatmaps_NKHW.device.type, enabled=False):  # places need all their bits
        return _average(heatmaps_NKHW.float(), batch, views, flip_index)


def _average(heatmaps_NKHW: Tensor, batch: Batch, views: int, flip_index: Tensor) -> Tensor:
    maps = heatmaps_NKHW.chunk(views)
    placed = _to_square(batch.heatmap_from_frame.float()).chunk(views)
    mirrored, shown_in = batch.mirrored.chunk(views), (batch.weight > 0).float().chunk(views)
    means = []
    for to in range(views):
        total, count = torch.zeros_like(maps[to]), torch.zeros_like(shown_in[to])
        for source in range(views):
            seen, shown = maps[source], shown_in[source]
            if source != to:
                swap = mirrored[source] != mirrored[to]
                from_target = placed[source] @ torch.linalg.inv(placed[to])
                seen = resample(_swap_sides(seen, swap, flip_index), from_target[:, :2])
                shown = _swap_sides(shown, swap, flip_index)
            total = total + seen * shown[..., None, None]
            count = count + shown
        mean = total / count.clamp_min(1.0)[..., None, None]
        means.append(torch.where(count[..., None, None] > 0, mean, maps[to]))
    return torch.cat(means)


def resample(heatmaps_BKHW: Tensor, source_from_target_B23: Tensor) -> Tensor:
    """Heatmaps as they lie in another frame of the same size; its outside repeats the border."""
    height, width = heatmaps_BKHW.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=heatmaps_BKHW.device, dtype=torch.float32),
        torch.arange(width, device=heatmaps_BKHW.device, dtype=torch.float32),
        indexing="ij",
    )
    target_HW3 = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    source_BHW2 = torch.einsum("bij,hwj->bhwi", source_from_target_B23, target_HW3)
    scale = torch.tensor([width - 1, height - 1], device=heatmaps_BKHW.device)
    return F.grid_sample(
        heatmaps_BKHW.float(),
        source_BHW2 / scale * 2 - 1,
        padding_mode="border",
        align_corners=True,
    )


def _swap_sides(values: Tensor, swap_B: Tensor, flip_index: Tensor) -> Tensor:
    """(B, K, ...) with left and right joints exchanged where asked."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return torch.where(swap_B.view(shape), values[:, flip_index], values)


def _to_square(affine_N23: Tensor) -> Tensor:
    last = affine_N23.new_tensor([0.0, 0.0, 1.0]).expand(len(affine_N23), 1, 3)
    return torch.cat([affine_N23, last], dim=1)
