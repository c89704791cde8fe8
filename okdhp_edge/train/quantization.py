"""Quantization-aware online distillation: the branch in INT8 learns from the ensemble in float.

On every batch the deployed branch runs twice on the same weights, in float beside its peers and as
it will in INT8. Both learn from the labels; the ensemble, which stays float, teaches both.
"""

from torch import Tensor, nn

from okdhp_edge.network.fake_quant import QuantizedBranch
from okdhp_edge.recipe.distillation import QuantizationTable
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.losses import pixelwise_kl
from okdhp_edge.train.methods.base import Losses, Method


class QuantizationAware(nn.Module):
    """The terms of the loss that the INT8 heatmaps add."""

    def __init__(self, branch: QuantizedBranch, table: QuantizationTable) -> None:
        super().__init__()
        self.branch = branch
        self.table = table

    def forward(self, method: Method, losses: Losses, batch: Batch) -> dict[str, Tensor]:
        """Hard loss and KL of the INT8 heatmaps, by name."""
        heatmaps = self.branch(batch.image[..., :3])
        heatmap, total = method.recipe.heatmap, method.compute_total(batch.weight)
        sigma = heatmap.branch_sigmas[self.table.branch] if heatmap.branch_sigmas else heatmap.sigma
        hard = method.hard(heatmaps, batch, batch.weight, sigma)
        kd = pixelwise_kl(
            heatmaps, losses.ensemble.detach(), batch.weight, total, self.table.temperature
        )
        return {
            "int8_hard": self.table.hard_weight * hard, "int8_kd": self.table.kd_weight * kd,
        }  # fmt: skip
